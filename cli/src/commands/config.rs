//! `seal config explain`: path -> the rule that wins, those that it shadows, and those that never can.

use std::path::Path;

use crate::{
    args::shell::{ConfigCommand, ExplainArgs},
    config::{Config, Rule},
    error::{Error, Result},
    output,
};

pub(crate) fn run(command: ConfigCommand) -> Result<()> {
    match command {
        ConfigCommand::Explain(args) => explain(&args),
    }
}

fn explain(args: &ExplainArgs) -> Result<()> {
    let config = Config::find(Some(&args.path))?;
    let Some(root) = config.root() else {
        return Err(Error::request("there is no .seal/ here or above, so there are no rules")
            .hint("start with `seal init --from-cluster`"));
    };
    let mut text = format!("rules of {}\n", output::near(&root.join(".seal/config.yaml")));
    let below = config.below_root(&args.path);
    match &below {
        Some(below) => text.push_str(&format!("for {}\n\n", below.display())),
        None => {
            text.push_str(&format!("no rule matches {}: it is not below {}\n\n", args.path.display(), root.display()))
        }
    }
    let rows: Vec<_> = judged(config.rules(), below.as_deref())
        .into_iter()
        .zip(config.rules())
        .zip(1..)
        .map(|((judgement, rule), number): (_, usize)| {
            vec![number.to_string(), rule.path.clone(), said(rule), judgement.text()]
        })
        .collect();
    if rows.is_empty() {
        text.push_str("no rules\n");
    } else {
        text.push_str(&output::table(&["RULE", "PATH", "SAYS", ""], &rows));
    }
    text.push_str(&ring_said(&config, below.as_deref()));
    text.push_str(&store_said(&config, below.as_deref()));
    output::data(text.as_bytes())
}

/// Which ring it comes down to, when no flag says otherwise.
fn ring_said(config: &Config, below: Option<&Path>) -> String {
    let winner = below.and_then(|below| config.rules().iter().find(|rule| rule.matches(below)));
    match config.ring_for(None, winner) {
        Ok(ring) => format!("\nseals to the ring {} ({})\n", ring.name(), output::near(&ring.path)),
        Err(error) => format!("\nseals to no ring: {error}\n"),
    }
}

/// Which store `seal vault add` refers to, when neither a flag nor the file says otherwise.
fn store_said(config: &Config, below: Option<&Path>) -> String {
    let winner = below.and_then(|below| config.rules().iter().find(|rule| rule.matches(below)));
    let store = winner.and_then(|rule| rule.vault_store.as_ref());
    store.map(|store| format!("refers to the VaultStore {store}\n")).unwrap_or_default()
}

fn said(rule: &Rule) -> String {
    let ring = rule.ring.iter().map(|ring| format!("ring {ring}"));
    let scope = rule.scope.iter().map(|scope| format!("scope {}", format!("{scope:?}").to_lowercase()));
    let namespaces = (!rule.namespaces.is_empty()).then(|| format!("namespace {}", rule.namespaces.join(", ")));
    let store = rule.vault_store.iter().map(|store| format!("store {store}"));
    let said: Vec<_> = ring.chain(scope).chain(namespaces).chain(store).collect();
    if said.is_empty() { "nothing".to_owned() } else { said.join(", ") }
}

/// What becomes of a rule for one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Judgement {
    Wins,
    /// It matches, and so does an earlier one.
    Shadowed,
    /// Whatever it matches, an earlier one (counted from 1) matches.
    Unreachable(usize),
    NoMatch,
}

impl Judgement {
    fn text(self) -> String {
        match self {
            Self::Wins => "wins".to_owned(),
            Self::Shadowed => "matches too, and comes too late".to_owned(),
            Self::Unreachable(earlier) => format!("can never win: rule {earlier} takes all that it matches"),
            Self::NoMatch => String::new(),
        }
    }
}

fn judged(rules: &[Rule], below: Option<&Path>) -> Vec<Judgement> {
    let matches = |rule: &Rule| below.is_some_and(|below| rule.matches(below));
    let winner = rules.iter().position(matches);
    let judge = |(position, rule): (usize, &Rule)| {
        if winner == Some(position) {
            return Judgement::Wins;
        }
        match rules[..position].iter().position(|earlier| covers(earlier, &rule.path)) {
            Some(earlier) => Judgement::Unreachable(earlier + 1),
            None if matches(rule) => Judgement::Shadowed,
            None => Judgement::NoMatch,
        }
    };
    rules.iter().enumerate().map(judge).collect()
}

/// Whether `earlier` certainly matches all that the glob `later` matches. Not always seen, but never wrongly.
fn covers(earlier: &Rule, later: &str) -> bool {
    let is_special = |c: char| "*?[]{}\\!".contains(c);
    let plain = |glob: &str| glob.trim_start_matches("./").to_owned();
    let (first, later) = (plain(&earlier.path), plain(later));
    let folder = match first.as_str() {
        "**" | "**/*" => return true,
        _ if first == later => return true,
        _ if !later.contains(is_special) && !later.ends_with('/') => return earlier.matches(Path::new(&later)),
        first => first.strip_suffix("**").or(first.ends_with('/').then_some(first)),
    };
    folder.is_some_and(|folder| {
        folder.ends_with('/') && !folder.contains(is_special) && later.len() > folder.len() && later.starts_with(folder)
    })
}
