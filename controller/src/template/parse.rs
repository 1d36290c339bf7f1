//! Source text -> tokens -> tree, with the grammar and the refusals of Go's `text/template/parse`.
//!
//! Written here because the published crate parses what Go refuses (a stray `{{end}}` silently
//! drops the rest of the text) and overflows the stack on a long `else if` chain. Here nesting is
//! bounded, functions and variables are checked before anything runs, and every node knows its place.

use std::collections::BTreeMap;

use super::Reason;
use super::functions::{self, Function};
use super::value::{Text, Value};

/// How deep control structures and parentheses may nest; an `else if` is one level.
const MAX_DEPTH: usize = 100;

/// A parsed template and those that it defines.
pub(super) struct Tree {
    pub(super) body: Vec<Node>,
    pub(super) defined: BTreeMap<String, Vec<Node>>,
}

pub(super) enum Node {
    Text(Vec<u8>),
    Action(Pipe),
    If(Branch),
    With(Branch),
    Range(Branch),
    Template { at: usize, name: String, pipe: Option<Pipe> },
    Break,
    Continue,
}

pub(super) struct Branch {
    pub(super) at: usize,
    pub(super) pipe: Pipe,
    pub(super) body: Vec<Node>,
    pub(super) otherwise: Vec<Node>,
}

pub(super) struct Pipe {
    pub(super) at: usize,
    pub(super) variables: Vec<String>,
    pub(super) is_assignment: bool,
    pub(super) commands: Vec<Command>,
}

pub(super) struct Command {
    pub(super) operands: Vec<Operand>,
}

pub(super) struct Operand {
    pub(super) at: usize,
    pub(super) kind: OperandKind,
}

pub(super) enum OperandKind {
    Dot,
    Nil,
    Constant(Value),
    /// A number that does not fit Go's `int`: an error when evaluated.
    Overflow,
    Field(Vec<String>),
    Variable(String, Vec<String>),
    Function(&'static Function),
    Pipe(Pipe),
    Chain(Box<Operand>, Vec<String>),
}

/// Where the source is wrong, and how.
pub(super) struct Mistake {
    pub(super) at: usize,
    pub(super) reason: Reason,
}

type Parsed<T> = Result<T, Mistake>;

fn mistake<T>(at: usize) -> Parsed<T> {
    Err(Mistake { at, reason: Reason::ParseError })
}

/// Parses a template source.
pub(super) fn parse(source: &str) -> Parsed<Tree> {
    let tokens = Lexer { source, at: 0, parentheses: 0, tokens: Vec::new() }.tokens()?;
    let mut parser =
        Parser { tokens, next: 0, variables: root_variables(), ranges: 0, depth: 0, defined: BTreeMap::new() };
    let body = parser.top()?;
    Ok(Tree { body, defined: parser.defined })
}

fn root_variables() -> Vec<String> {
    vec!["$".into()]
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Left,
    Right,
    Space,
    Assign,
    Declare,
    Pipe,
    Comma,
    LeftParen,
    RightParen,
    Dot,
    Field,
    Variable,
    Identifier,
    Bool,
    Nil,
    Number,
    Char,
    Quoted,
    Raw,
    Block,
    Break,
    Continue,
    Define,
    Else,
    End,
    If,
    Range,
    Template,
    With,
    Eof,
}

#[derive(Clone, Copy)]
struct Token<'s> {
    kind: Kind,
    at: usize,
    text: &'s str,
}

struct Lexer<'s> {
    source: &'s str,
    at: usize,
    parentheses: usize,
    tokens: Vec<Token<'s>>,
}

/// The most parts that one template may have: each takes some hundred bytes while it is rendered.
const MAX_TOKENS: usize = 1 << 16;

const SPACE: [char; 4] = [' ', '\t', '\r', '\n'];

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphabetic() || c.is_numeric()
}

impl<'s> Lexer<'s> {
    fn tokens(mut self) -> Parsed<Vec<Token<'s>>> {
        while let Some(left) = self.rest().find("{{") {
            let trims = has_left_trim(&self.rest()[left + 2..]);
            let text = &self.rest()[..left];
            self.text(if trims { text.trim_end_matches(SPACE) } else { text });
            self.at += left;
            let open = self.at;
            self.at += if trims { 4 } else { 2 };
            if self.rest().starts_with("/*") {
                self.comment(open)?;
            } else {
                self.emit(Kind::Left, open);
                self.action(open)?;
            }
        }
        self.text(self.rest());
        self.at = self.source.len();
        self.emit(Kind::Eof, self.at);
        Ok(self.tokens)
    }

    fn rest(&self) -> &'s str {
        &self.source[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn emit(&mut self, kind: Kind, from: usize) {
        self.tokens.push(Token { kind, at: from, text: &self.source[from..self.at] });
    }

    fn text(&mut self, text: &'s str) {
        if !text.is_empty() {
            self.tokens.push(Token { kind: Kind::Text, at: self.at, text });
        }
    }

    fn comment(&mut self, open: usize) -> Parsed<()> {
        self.at += 2;
        let Some(close) = self.rest().find("*/") else { return mistake(open) };
        self.at += close + 2;
        if self.right_delimiter() { Ok(()) } else { mistake(open) }
    }

    /// Consumes `}}` or ` -}}` and, after the latter, white space.
    fn right_delimiter(&mut self) -> bool {
        if self.rest().starts_with("}}") {
            self.at += 2;
            return true;
        }
        let Some(rest) = self.rest().strip_prefix(SPACE).and_then(|rest| rest.strip_prefix("-}}")) else {
            return false;
        };
        self.at = self.source.len() - rest.trim_start_matches(SPACE).len();
        true
    }

    fn action(&mut self, open: usize) -> Parsed<()> {
        self.parentheses = 0;
        loop {
            let from = self.at;
            if self.tokens.len() > MAX_TOKENS {
                return Err(Mistake { at: from, reason: Reason::TooMuchWork });
            }
            if self.right_delimiter() {
                if self.parentheses > 0 {
                    return mistake(from);
                }
                self.tokens.push(Token { kind: Kind::Right, at: from, text: "}}" });
                return Ok(());
            }
            let Some(c) = self.peek() else { return mistake(open) };
            self.at += c.len_utf8();
            match c {
                ' ' | '\t' | '\r' | '\n' => self.space(from),
                '=' => self.emit(Kind::Assign, from),
                ':' if self.rest().starts_with('=') => {
                    self.at += 1;
                    self.emit(Kind::Declare, from);
                }
                '|' => self.emit(Kind::Pipe, from),
                ',' => self.emit(Kind::Comma, from),
                '"' => self.quoted('"', Kind::Quoted, from)?,
                '\'' => self.quoted('\'', Kind::Char, from)?,
                '`' => {
                    let Some(close) = self.rest().find('`') else { return mistake(from) };
                    self.at += close + 1;
                    self.emit(Kind::Raw, from);
                }
                '$' => self.word(Kind::Variable, from)?,
                '.' if !self.peek().is_some_and(|c| c.is_ascii_digit()) => {
                    let kind = if self.at_terminator() { Kind::Dot } else { Kind::Field };
                    self.word(kind, from)?;
                }
                '.' | '+' | '-' | '0'..='9' => {
                    self.at = from;
                    self.number(from)?;
                }
                '(' => {
                    self.parentheses += 1;
                    self.emit(Kind::LeftParen, from);
                }
                ')' => {
                    let Some(open) = self.parentheses.checked_sub(1) else { return mistake(from) };
                    self.parentheses = open;
                    self.emit(Kind::RightParen, from);
                }
                c if is_word(c) => {
                    self.word(Kind::Identifier, from)?;
                    self.name_keyword();
                }
                _ => return mistake(from),
            }
        }
    }

    /// A run of white space, but not the space that belongs to a closing ` -}}`.
    fn space(&mut self, from: usize) {
        while self.rest().starts_with(SPACE) && !is_right_trim(self.rest()) {
            self.at += 1;
        }
        if is_right_trim(&self.source[from..]) {
            self.at = from;
        } else {
            self.emit(Kind::Space, from);
        }
    }

    fn quoted(&mut self, quote: char, kind: Kind, from: usize) -> Parsed<()> {
        loop {
            let Some(c) = self.peek() else { return mistake(from) };
            self.at += c.len_utf8();
            match c {
                '\n' => return mistake(from),
                '\\' => match self.peek() {
                    None | Some('\n') => return mistake(from),
                    Some(escaped) => self.at += escaped.len_utf8(),
                },
                c if c == quote => break,
                _ => {}
            }
        }
        self.emit(kind, from);
        Ok(())
    }

    fn word(&mut self, kind: Kind, from: usize) -> Parsed<()> {
        while self.peek().is_some_and(is_word) {
            self.at += self.peek().map_or(0, char::len_utf8);
        }
        if !self.at_terminator() {
            return mistake(self.at);
        }
        self.emit(kind, from);
        Ok(())
    }

    fn at_terminator(&self) -> bool {
        let rest = self.rest();
        rest.is_empty()
            || rest.starts_with([' ', '\t', '\r', '\n', '.', ',', '|', ':', '(', ')'])
            || rest.starts_with("}}")
    }

    fn name_keyword(&mut self) {
        let Some(token) = self.tokens.last_mut() else { return };
        token.kind = match token.text {
            "true" | "false" => Kind::Bool,
            "nil" => Kind::Nil,
            "block" => Kind::Block,
            "break" => Kind::Break,
            "continue" => Kind::Continue,
            "define" => Kind::Define,
            "else" => Kind::Else,
            "end" => Kind::End,
            "if" => Kind::If,
            "range" => Kind::Range,
            "template" => Kind::Template,
            "with" => Kind::With,
            _ => Kind::Identifier,
        };
    }

    fn number(&mut self, from: usize) -> Parsed<()> {
        self.accept("+-");
        let mut digits = "0123456789_";
        if self.accept("0") {
            if self.accept("xX") {
                digits = "0123456789abcdefABCDEF_";
            } else if self.accept("oO") {
                digits = "01234567_";
            } else if self.accept("bB") {
                digits = "01_";
            }
        }
        while self.accept(digits) {}
        if self.accept(".") {
            while self.accept(digits) {}
        }
        if (digits.len() == 11 && self.accept("eE")) || (digits.len() == 23 && self.accept("pP")) {
            self.accept("+-");
            while self.accept("0123456789_") {}
        }
        // What follows would make it a complex number or a word: neither means anything here.
        if self.peek().is_some_and(|c| is_word(c) || c == '+' || c == '-') {
            return mistake(from);
        }
        self.emit(Kind::Number, from);
        Ok(())
    }

    fn accept(&mut self, set: &str) -> bool {
        let accepted = self.peek().is_some_and(|c| set.contains(c));
        self.at += usize::from(accepted);
        accepted
    }
}

fn has_left_trim(after_delimiter: &str) -> bool {
    after_delimiter.strip_prefix('-').is_some_and(|rest| rest.starts_with(SPACE))
}

fn is_right_trim(rest: &str) -> bool {
    rest.strip_prefix(SPACE).is_some_and(|rest| rest.starts_with("-}}"))
}

struct Parser<'s> {
    tokens: Vec<Token<'s>>,
    next: usize,
    variables: Vec<String>,
    ranges: usize,
    depth: usize,
    defined: BTreeMap<String, Vec<Node>>,
}

/// What stands next in a list of nodes.
enum Item {
    Node(Node),
    End,
    Else,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Control {
    If,
    Range,
    With,
}

impl Parser<'_> {
    fn peek(&self) -> Token<'_> {
        // The lexer ends every stream with Eof, and Eof is never passed.
        self.tokens[self.next.min(self.tokens.len() - 1)]
    }

    fn advance(&mut self) -> (Kind, usize) {
        let token = self.peek();
        let result = (token.kind, token.at);
        self.next += 1;
        result
    }

    fn peek_solid(&mut self) -> (Kind, usize) {
        while self.peek().kind == Kind::Space {
            self.next += 1;
        }
        (self.peek().kind, self.peek().at)
    }

    fn advance_solid(&mut self) -> (Kind, usize) {
        self.peek_solid();
        self.advance()
    }

    fn expect_right(&mut self) -> Parsed<()> {
        match self.advance_solid() {
            (Kind::Right, _) => Ok(()),
            (_, at) => mistake(at),
        }
    }

    fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth == MAX_DEPTH {
            return Err(Mistake { at: self.peek().at, reason: Reason::TooMuchWork });
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    fn top(&mut self) -> Parsed<Vec<Node>> {
        let mut nodes = Vec::new();
        while self.peek().kind != Kind::Eof {
            let before = self.next;
            if self.advance().0 == Kind::Left && self.peek_solid().0 == Kind::Define {
                self.next += 1;
                self.define()?;
                continue;
            }
            self.next = before;
            let at = self.peek().at;
            match self.item()? {
                Item::Node(node) => nodes.push(node),
                Item::End | Item::Else => return mistake(at),
            }
        }
        Ok(nodes)
    }

    fn define(&mut self) -> Parsed<()> {
        let (name, at) = self.name()?;
        self.expect_right()?;
        self.tree(name, at)
    }

    /// The body of a named template up to its `{{end}}`, with variables of its own.
    fn tree(&mut self, name: String, at: usize) -> Parsed<()> {
        let variables = std::mem::replace(&mut self.variables, root_variables());
        let ranges = std::mem::take(&mut self.ranges);
        let (body, end) = self.nested(Self::list)?;
        self.variables = variables;
        self.ranges = ranges;
        if !matches!(end, Item::End) {
            return mistake(at);
        }
        match self.defined.get(&name) {
            Some(earlier) if !is_blank(earlier) => {
                if !is_blank(&body) {
                    return mistake(at);
                }
            }
            _ => {
                self.defined.insert(name, body);
            }
        }
        Ok(())
    }

    /// Nodes up to and including an `{{end}}`, or up to an `{{else}}`.
    fn list(&mut self) -> Parsed<(Vec<Node>, Item)> {
        let mut nodes = Vec::new();
        while self.peek_solid().0 != Kind::Eof {
            match self.item()? {
                Item::Node(node) => nodes.push(node),
                end => return Ok((nodes, end)),
            }
        }
        mistake(self.peek().at)
    }

    fn item(&mut self) -> Parsed<Item> {
        self.peek_solid();
        let text = self.peek().text.as_bytes().to_vec();
        match self.advance() {
            (Kind::Text, _) => Ok(Item::Node(Node::Text(text))),
            (Kind::Left, _) => self.action(),
            (_, at) => mistake(at),
        }
    }

    fn action(&mut self) -> Parsed<Item> {
        let before = self.next;
        let (kind, at) = self.advance_solid();
        let node = match kind {
            Kind::End => {
                self.expect_right()?;
                return Ok(Item::End);
            }
            Kind::Else => {
                if !matches!(self.peek_solid().0, Kind::If | Kind::With) {
                    self.expect_right()?;
                }
                return Ok(Item::Else);
            }
            Kind::Break | Kind::Continue => {
                self.expect_right()?;
                if self.ranges == 0 {
                    return mistake(at);
                }
                if kind == Kind::Break { Node::Break } else { Node::Continue }
            }
            Kind::If => Node::If(self.control(Control::If, at)?),
            Kind::With => Node::With(self.control(Control::With, at)?),
            Kind::Range => Node::Range(self.control(Control::Range, at)?),
            Kind::Template => {
                let (name, _) = self.name()?;
                let pipe = match self.peek_solid() {
                    (Kind::Right, _) => {
                        self.next += 1;
                        None
                    }
                    _ => Some(self.pipeline(Kind::Right, false)?),
                };
                Node::Template { at, name, pipe }
            }
            Kind::Block => {
                let (name, name_at) = self.name()?;
                let pipe = self.pipeline(Kind::Right, false)?;
                self.tree(name.clone(), name_at)?;
                Node::Template { at, name, pipe: Some(pipe) }
            }
            _ => {
                self.next = before;
                Node::Action(self.pipeline(Kind::Right, false)?)
            }
        };
        Ok(Item::Node(node))
    }

    fn name(&mut self) -> Parsed<(String, usize)> {
        let (kind, at) = self.peek_solid();
        let text = self.peek().text;
        let name = match kind {
            Kind::Quoted => unquote(text).and_then(|bytes| String::from_utf8(bytes).ok()),
            Kind::Raw => Some(raw(text)),
            _ => None,
        };
        self.next += 1;
        name.map_or_else(|| mistake(at), |name| Ok((name, at)))
    }

    fn control(&mut self, control: Control, at: usize) -> Parsed<Branch> {
        self.nested(|this| {
            let variables = this.variables.len();
            let pipe = this.pipeline(Kind::Right, control == Control::Range)?;
            this.ranges += usize::from(control == Control::Range);
            let (body, end) = this.list()?;
            this.ranges -= usize::from(control == Control::Range);
            let otherwise = if matches!(end, Item::Else) { this.otherwise(control)? } else { Vec::new() };
            this.variables.truncate(variables);
            Ok(Branch { at, pipe, body, otherwise })
        })
    }

    fn otherwise(&mut self, control: Control) -> Parsed<Vec<Node>> {
        let (kind, at) = self.peek_solid();
        match (control, kind) {
            // One {{end}} closes the whole chain.
            (Control::If, Kind::If) => {
                self.next += 1;
                Ok(vec![Node::If(self.control(Control::If, at)?)])
            }
            (Control::With, Kind::With) => {
                self.next += 1;
                Ok(vec![Node::With(self.control(Control::With, at)?)])
            }
            _ => match self.list()? {
                (nodes, Item::End) => Ok(nodes),
                _ => mistake(at),
            },
        }
    }

    fn pipeline(&mut self, end: Kind, is_range: bool) -> Parsed<Pipe> {
        let (_, at) = self.peek_solid();
        let mut pipe = Pipe { at, variables: Vec::new(), is_assignment: false, commands: Vec::new() };
        self.declarations(&mut pipe, is_range)?;
        loop {
            let (kind, token_at) = self.peek_solid();
            match kind {
                kind if kind == end => {
                    self.next += 1;
                    break;
                }
                Kind::Bool
                | Kind::Char
                | Kind::Dot
                | Kind::Field
                | Kind::Identifier
                | Kind::Number
                | Kind::Nil
                | Kind::Raw
                | Kind::Quoted
                | Kind::Variable
                | Kind::LeftParen => {
                    let command = self.command()?;
                    pipe.commands.push(command);
                }
                _ => return mistake(token_at),
            }
        }
        // Only the first command may be a mere value.
        for command in pipe.commands.iter().skip(1) {
            let first = &command.operands[0];
            if matches!(
                first.kind,
                OperandKind::Constant(_) | OperandKind::Overflow | OperandKind::Dot | OperandKind::Nil
            ) {
                return mistake(first.at);
            }
        }
        if pipe.commands.is_empty() { mistake(at) } else { Ok(pipe) }
    }

    /// `$x :=`, `$x =`, and in a range `$i, $x :=`.
    fn declarations(&mut self, pipe: &mut Pipe, is_range: bool) -> Parsed<()> {
        loop {
            let before = self.next;
            if self.peek_solid().0 != Kind::Variable {
                return Ok(());
            }
            let name = self.peek().text.to_owned();
            self.next += 1;
            let (kind, at) = self.peek_solid();
            match kind {
                Kind::Assign | Kind::Declare => {
                    self.next += 1;
                    pipe.is_assignment = kind == Kind::Assign;
                    self.declare(pipe, name);
                    return Ok(());
                }
                Kind::Comma => {
                    self.next += 1;
                    self.declare(pipe, name);
                    let another = matches!(self.peek_solid().0, Kind::Variable | Kind::Right | Kind::RightParen);
                    if !is_range || pipe.variables.len() > 1 || !another {
                        return mistake(at);
                    }
                }
                _ => {
                    self.next = before;
                    return Ok(());
                }
            }
        }
    }

    fn declare(&mut self, pipe: &mut Pipe, name: String) {
        self.variables.push(name.clone());
        pipe.variables.push(name);
    }

    fn command(&mut self) -> Parsed<Command> {
        let mut operands = Vec::new();
        loop {
            let (_, at) = self.peek_solid();
            if let Some(operand) = self.operand()? {
                operands.push(operand);
            }
            match self.peek().kind {
                Kind::Space => self.next += 1,
                Kind::Pipe => {
                    self.next += 1;
                    break;
                }
                Kind::Right | Kind::RightParen => break,
                _ => return mistake(self.peek().at.max(at)),
            }
        }
        if operands.is_empty() { mistake(self.peek().at) } else { Ok(Command { operands }) }
    }

    fn operand(&mut self) -> Parsed<Option<Operand>> {
        let Some(mut operand) = self.term()? else { return Ok(None) };
        if self.peek().kind != Kind::Field {
            return Ok(Some(operand));
        }
        let at = self.peek().at;
        let mut fields = Vec::new();
        while self.peek().kind == Kind::Field {
            fields.push(self.peek().text[1..].to_owned());
            self.next += 1;
        }
        match &mut operand.kind {
            OperandKind::Field(chain) | OperandKind::Variable(_, chain) => chain.append(&mut fields),
            OperandKind::Constant(_) | OperandKind::Overflow | OperandKind::Nil | OperandKind::Dot => {
                return mistake(at);
            }
            _ => {
                let at = operand.at;
                operand = Operand { at, kind: OperandKind::Chain(Box::new(operand), fields) };
            }
        }
        Ok(Some(operand))
    }

    fn term(&mut self) -> Parsed<Option<Operand>> {
        let (kind, at) = self.peek_solid();
        let text = self.peek().text;
        let kind = match kind {
            Kind::Identifier => match functions::lookup(text) {
                Some(function) => OperandKind::Function(function),
                None => return Err(Mistake { at, reason: Reason::UnknownFunction }),
            },
            Kind::Dot => OperandKind::Dot,
            Kind::Nil => OperandKind::Nil,
            Kind::Bool => OperandKind::Constant(Value::Bool(text == "true")),
            Kind::Field => OperandKind::Field(vec![text[1..].to_owned()]),
            Kind::Variable if self.variables.iter().any(|v| v == text) => {
                OperandKind::Variable(text.to_owned(), Vec::new())
            }
            Kind::Number => number(text).map_or_else(|| mistake(at), Ok)?,
            Kind::Char => match character(text) {
                Some(c) => OperandKind::Constant(Value::Int(c)),
                None => return mistake(at),
            },
            Kind::Quoted => match unquote(text) {
                Some(bytes) => OperandKind::Constant(Value::Text(Text::free(bytes))),
                None => return mistake(at),
            },
            Kind::Raw => OperandKind::Constant(Value::Text(Text::free(raw(text).into_bytes()))),
            Kind::LeftParen => {
                self.next += 1;
                let pipe = self.nested(|this| this.pipeline(Kind::RightParen, false))?;
                return Ok(Some(Operand { at, kind: OperandKind::Pipe(pipe) }));
            }
            Kind::Variable => return mistake(at),
            _ => return Ok(None),
        };
        self.next += 1;
        Ok(Some(Operand { at, kind }))
    }
}

fn is_blank(nodes: &[Node]) -> bool {
    nodes.iter().all(|node| matches!(node, Node::Text(text) if String::from_utf8_lossy(text).trim().is_empty()))
}

/// A raw string without its backquotes; Go drops carriage returns from it.
fn raw(text: &str) -> String {
    text[1..text.len() - 1].replace('\r', "")
}

/// The bytes that a quoted Go string stands for.
fn unquote(text: &str) -> Option<Vec<u8>> {
    let mut rest = &text[1..text.len() - 1];
    let mut bytes = Vec::with_capacity(rest.len());
    while !rest.is_empty() {
        match unescape(rest, '"')? {
            (Escape::Byte(byte), tail) => {
                bytes.push(byte);
                rest = tail;
            }
            (Escape::Char(c), tail) => {
                bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                rest = tail;
            }
        }
    }
    Some(bytes)
}

/// The code of a character constant.
fn character(text: &str) -> Option<i64> {
    match unescape(&text[1..text.len() - 1], '\'')? {
        (Escape::Byte(byte), "") => Some(byte.into()),
        (Escape::Char(c), "") => Some(u32::from(c).into()),
        _ => None,
    }
}

enum Escape {
    Byte(u8),
    Char(char),
}

fn unescape(rest: &str, quote: char) -> Option<(Escape, &str)> {
    let mut chars = rest.chars();
    let first = chars.next()?;
    if first == quote {
        return None;
    }
    if first != '\\' {
        return Some((Escape::Char(first), chars.as_str()));
    }
    let escaped = chars.next()?;
    let rest = chars.as_str();
    let simple = |c| Some((Escape::Char(c), rest));
    let code = |digits: usize, radix| {
        let code = rest.get(..digits)?;
        if code.bytes().all(|b| char::from(b).is_digit(radix)) { u32::from_str_radix(code, radix).ok() } else { None }
    };
    match escaped {
        'a' => simple('\x07'),
        'b' => simple('\x08'),
        'f' => simple('\x0c'),
        'n' => simple('\n'),
        'r' => simple('\r'),
        't' => simple('\t'),
        'v' => simple('\x0b'),
        '\\' => simple('\\'),
        c if c == quote => simple(quote),
        'x' => Some((Escape::Byte(u8::try_from(code(2, 16)?).ok()?), &rest[2..])),
        'u' => Some((Escape::Char(char::from_u32(code(4, 16)?)?), &rest[4..])),
        'U' => Some((Escape::Char(char::from_u32(code(8, 16)?)?), &rest[8..])),
        high @ '0'..='7' => {
            let value = high.to_digit(8)? * 64 + code(2, 8)?;
            Some((Escape::Byte(u8::try_from(value).ok()?), &rest[2..]))
        }
        _ => None,
    }
}

/// A number as Go reads it: `int` where it looks like one, else `float64`.
fn number(text: &str) -> Option<OperandKind> {
    let (negative, unsigned) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if unsigned.ends_with('_') || unsigned.contains("__") || unsigned.starts_with('_') {
        return None;
    }
    let clean = unsigned.replace('_', "");
    let lower = clean.to_ascii_lowercase();
    let (digits, radix) = match lower.get(..2) {
        Some("0x") => (&lower[2..], 16),
        Some("0o") => (&lower[2..], 8),
        Some("0b") => (&lower[2..], 2),
        _ if lower.len() > 1 && lower.starts_with('0') => (&lower[1..], 8),
        _ => (&lower[..], 10),
    };
    if let Ok(magnitude) = u64::from_str_radix(digits, radix) {
        let signed = if negative { 0_i64.checked_sub_unsigned(magnitude) } else { i64::try_from(magnitude).ok() };
        return match signed {
            Some(n) => Some(OperandKind::Constant(Value::Int(n))),
            None if negative => None,
            None => Some(OperandKind::Overflow),
        };
    }
    if !clean.contains(['.', 'e', 'E']) || radix == 16 {
        return None;
    }
    let float: f64 = clean.parse().ok()?;
    float.is_finite().then(|| OperandKind::Constant(Value::Float(if negative { -float } else { float })))
}
