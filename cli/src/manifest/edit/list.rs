//! One more item in a list, where it stands.

use std::rc::Rc;

use super::{
    super::yaml::{Kind, Node},
    Edit, EditError, Entry, Tree,
};

impl Edit<'_> {
    /// Behind the last item, in the style of the list; `entry` is where the list stands.
    pub(super) fn append(
        &mut self,
        list: &Node,
        entry: Option<&Entry>,
        item: &Tree,
        here: &str,
    ) -> Result<(), EditError> {
        match &list.kind {
            Kind::Sequence { items, is_flow } if !items.is_empty() => {
                if *is_flow {
                    self.append_to_line(list, items, item)
                } else {
                    self.append_line(list, items, item)
                }
                Ok(())
            }
            Kind::Sequence { .. } => self.fill(list, entry, item, here),
            _ if list.is_null() => self.fill(list, entry, item, here),
            _ => Err(EditError::NotAList { line: list.line, path: here.to_owned() }),
        }
    }

    fn append_line(&mut self, list: &Node, items: &[Rc<Node>], item: &Tree) {
        let first = items.first().map_or(list.range.start, |first| first.range.start);
        // The parser's own start of a list that is not indented is not its dash.
        let column = self.column(self.text[..first].rfind('-').unwrap_or(first));
        let end = self.line_end(items.last().map_or(list.range.end, |last| last.range.end));
        let text = format!("{}{}- {}", self.line_break(list.range.start), " ".repeat(column), item.line());
        self.replacements.push((end..end, text));
    }

    /// With what stands between the items before it, or before the only one.
    fn append_to_line(&mut self, list: &Node, items: &[Rc<Node>], item: &Tree) {
        let between = match items {
            [.., one, two] => {
                let gap = &self.text[one.range.end..two.range.start];
                gap[gap.find(',').map_or(0, |comma| comma + 1)..].to_owned()
            }
            [only] => match &self.text[list.range.start + 1..only.range.start] {
                "" => " ".to_owned(),
                blank => blank.to_owned(),
            },
            [] => String::new(),
        };
        let end = items.last().map_or(list.range.start + 1, |last| last.range.end);
        self.replacements.push((end..end, format!(",{between}{}", item.json())));
    }

    /// `key: []`, `key: null` or `key:` gets its first item.
    fn fill(&mut self, list: &Node, entry: Option<&Entry>, item: &Tree, here: &str) -> Result<(), EditError> {
        let entry = entry.ok_or_else(|| EditError::NotAlone { path: here.to_owned() })?;
        let behind = &self.text[list.range.end..self.line_end(list.range.end)];
        let is_alone = behind.trim().is_empty();
        if !list.range.is_empty() && !is_alone {
            self.replacements.push((list.range.clone(), format!("[{}]", item.json())));
            return Ok(());
        }
        let (colon, column) = (self.behind_colon(entry), self.column(entry.key.range.start));
        let text = format!("{}{}- {}", self.line_break(colon), " ".repeat(column), item.line());
        if list.range.is_empty() {
            let end = self.line_end(colon);
            self.replacements.push((end..end, text));
        } else {
            self.replacements.push((colon..list.range.end, text));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{super::yaml, Step, Tree, append, put};

    fn path(fields: &[&str]) -> Vec<Step> {
        fields.iter().map(|field| Step::Key((*field).to_owned())).collect()
    }

    fn item() -> Tree {
        Tree::Map(vec![("key", Tree::Text("b".to_owned())), ("version", Tree::Number(4))])
    }

    #[test]
    fn an_item_is_appended_in_the_style_of_its_list() {
        for (before, after) in [
            ("v:\n  data:\n  - {key: a}\nz: 1\n", "v:\n  data:\n  - {key: a}\n  - {key: b, version: 4}\nz: 1\n"),
            (
                "v:\n  data:\n    # the first\n    - key: a\n      path: x   # why\n\n# end\n",
                "v:\n  data:\n    # the first\n    - key: a\n      path: x   # why\n    - {key: b, version: 4}\n\n# end\n",
            ),
            ("v:\r\n  data:\r\n  - {key: a}", "v:\r\n  data:\r\n  - {key: a}\r\n  - {key: b, version: 4}"),
            ("v: {data: [{key: a}]} # c\n", "v: {data: [{key: a}, {\"key\": \"b\", \"version\": 4}]} # c\n"),
            ("v: {data: []}\n", "v: {data: [{\"key\": \"b\", \"version\": 4}]}\n"),
            ("v:\n  data: []\nz: 1\n", "v:\n  data:\n  - {key: b, version: 4}\nz: 1\n"),
            ("v:\n  data: # none\nz: 1\n", "v:\n  data: # none\n  - {key: b, version: 4}\nz: 1\n"),
            ("v:\n  data: [] # none\n", "v:\n  data: [{\"key\": \"b\", \"version\": 4}] # none\n"),
            (
                "{\n  \"v\": {\n    \"data\": [\n      {\"key\": \"a\"}\n    ]\n  }\n}\n",
                "{\n  \"v\": {\n    \"data\": [\n      {\"key\": \"a\"},\n      {\"key\": \"b\", \"version\": 4}\n    ]\n  }\n}\n",
            ),
        ] {
            let documents = yaml::parse(before).expect("is YAML");
            assert_eq!(append(before, &documents, 0, &path(&["v", "data"]), &item()).as_deref(), Ok(after));
        }
    }

    #[test]
    fn a_tree_is_put_behind_the_other_entries() {
        let tree = Tree::Map(vec![
            ("storeRef", Tree::Map(vec![("name", Tree::Text("main".to_owned()))])),
            ("data", Tree::List(vec![item()])),
        ]);
        for (before, after) in [
            (
                "spec:\n  target: {}\n# end\n",
                "spec:\n  target: {}\n  vault:\n    storeRef: {name: main}\n    data:\n    - {key: b, version: 4}\n# end\n",
            ),
            (
                "{\"spec\": {\"target\": {}}}",
                "{\"spec\": {\"target\": {}, \"vault\": {\"storeRef\": {\"name\": \"main\"}, \"data\": [{\"key\": \"b\", \"version\": 4}]}}}",
            ),
        ] {
            let documents = yaml::parse(before).expect("is YAML");
            assert_eq!(put(before, &documents, 0, &path(&["spec"]), "vault", &tree).as_deref(), Ok(after));
        }
    }

    #[test]
    fn what_is_no_list_or_shared_is_refused() {
        for before in
            ["v:\n  data: text\n", "v:\n  data: {a: b}\n", "v:\n  data: &a [1]\nz: *a\n", "v: {}\n", "v:\n- data\n"]
        {
            let documents = yaml::parse(before).expect("is YAML");
            assert!(append(before, &documents, 0, &path(&["v", "data"]), &item()).is_err(), "{before}");
        }
    }
}
