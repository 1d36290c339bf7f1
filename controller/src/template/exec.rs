//! Tree and values -> bytes, as Go's `text/template` executes with `missingkey=error`.
//!
//! Every node walked, operand evaluated and byte made is paid for from the [`Meter`]; `at` follows
//! the node that is being worked on, and is where a failure is reported.

use super::Reason;
use super::format;
use super::functions::{Call, Function, Special};
use super::parse::{Branch, Command, Node, Operand, OperandKind, Pipe, Tree};
use super::pattern::Patterns;
use super::value::{Buffer, Meter, Outcome, Text, Value};

/// How deep templates, control structures and parentheses may call each other while running.
const MAX_DEPTH: usize = 150;

/// Runs a tree; on failure also says where in the source.
pub(super) fn execute(
    tree: &Tree,
    root: &Value,
    meter: &mut Meter,
    patterns: &mut Patterns,
) -> Result<Buffer, (usize, Reason)> {
    let mut executor = Executor {
        tree,
        meter,
        patterns,
        variables: vec![("$", root.clone())],
        at: 0,
        depth: 0,
        output: Buffer::new(),
    };
    match executor.walk(root, &tree.body) {
        Ok(()) => Ok(executor.output),
        Err(Halt::Failed(reason)) => Err((executor.at, reason)),
        // The parser lets neither stand outside a range.
        Err(Halt::Break | Halt::Continue) => Err((executor.at, Reason::ExecutionFailed)),
    }
}

enum Halt {
    Failed(Reason),
    Break,
    Continue,
}

impl From<Reason> for Halt {
    fn from(reason: Reason) -> Self {
        Self::Failed(reason)
    }
}

struct Executor<'t> {
    tree: &'t Tree,
    meter: &'t mut Meter,
    patterns: &'t mut Patterns,
    variables: Vec<(&'t str, Value)>,
    at: usize,
    depth: usize,
    output: Buffer,
}

impl<'t> Executor<'t> {
    fn walk(&mut self, dot: &Value, nodes: &'t [Node]) -> Result<(), Halt> {
        self.deeper(|this| nodes.iter().try_for_each(|node| this.node(dot, node)))
    }

    fn deeper<T>(&mut self, run: impl FnOnce(&mut Self) -> Result<T, Halt>) -> Result<T, Halt> {
        if self.depth == MAX_DEPTH {
            return Err(Reason::TooMuchWork.into());
        }
        self.depth += 1;
        let result = run(self);
        self.depth -= 1;
        result
    }

    fn node(&mut self, dot: &Value, node: &'t Node) -> Result<(), Halt> {
        self.meter.steps(1)?;
        match node {
            Node::Text(text) => Ok(self.output.push(text, self.meter)?),
            Node::Action(pipe) => {
                let value = self.pipe(dot, pipe)?;
                if pipe.variables.is_empty() {
                    self.at = pipe.at;
                    self.print(&value)?;
                }
                Ok(())
            }
            Node::If(branch) => self.scoped(|this| {
                let holds = this.pipe(dot, &branch.pipe)?.is_true();
                this.walk(dot, if holds { &branch.body } else { &branch.otherwise })
            }),
            Node::With(branch) => self.scoped(|this| {
                let value = this.pipe(dot, &branch.pipe)?;
                if value.is_true() { this.walk(&value, &branch.body) } else { this.walk(dot, &branch.otherwise) }
            }),
            Node::Range(branch) => self.scoped(|this| this.range(dot, branch)),
            Node::Template { at, name, pipe } => self.template(dot, *at, name, pipe.as_ref()),
            Node::Break => Err(Halt::Break),
            Node::Continue => Err(Halt::Continue),
        }
    }

    /// Go prints `<no value>` for nil. In a Secret that is never meant, so it counts as missing.
    fn print(&mut self, value: &Value) -> Result<(), Reason> {
        match value {
            Value::Nil => Err(Reason::MissingKey),
            value => format::plain(value, &mut self.output, self.meter),
        }
    }

    /// Variables declared inside are gone afterwards.
    fn scoped<T>(&mut self, run: impl FnOnce(&mut Self) -> Result<T, Halt>) -> Result<T, Halt> {
        let mark = self.variables.len();
        let result = run(self);
        self.variables.truncate(mark);
        result
    }

    fn range(&mut self, dot: &Value, branch: &'t Branch) -> Result<(), Halt> {
        let value = self.pipe(dot, &branch.pipe)?;
        self.at = branch.at;
        let mark = self.variables.len();
        let mut turns: Box<dyn Iterator<Item = (Value, Value)>> = match &value {
            Value::Nil => Box::new(std::iter::empty()),
            Value::List(list) => Box::new(list.items().iter().enumerate().map(|(i, item)| (int(i), item.clone()))),
            Value::Dict(dict) => {
                Box::new(dict.entries().iter().map(|(key, item)| (Value::Text(key.clone()), item.clone())))
            }
            Value::Int(count) if branch.pipe.variables.len() < 2 => {
                Box::new((0..*count).map(|i| (Value::Nil, Value::Int(i))))
            }
            _ => return Err(Reason::ExecutionFailed.into()),
        };
        let Some(first) = turns.next() else { return self.walk(dot, &branch.otherwise) };
        for (index, item) in std::iter::once(first).chain(turns) {
            self.meter.steps(1)?;
            self.bind_turn(branch, index, &item)?;
            let turn = self.walk(&item, &branch.body);
            self.variables.truncate(mark);
            match turn {
                Ok(()) | Err(Halt::Continue) => {}
                Err(Halt::Break) => break,
                Err(failed) => return Err(failed),
            }
        }
        Ok(())
    }

    /// The pipe has declared the variables; each turn gives them its index and item.
    fn bind_turn(&mut self, branch: &'t Branch, index: Value, item: &Value) -> Result<(), Reason> {
        match branch.pipe.variables.as_slice() {
            [] => Ok(()),
            [only] => self.assign(only, item.clone()),
            [first, second, ..] => {
                self.assign(first, index)?;
                self.assign(second, item.clone())
            }
        }
    }

    fn template(&mut self, dot: &Value, at: usize, name: &str, pipe: Option<&'t Pipe>) -> Result<(), Halt> {
        self.at = at;
        let tree = self.tree;
        let body = tree.defined.get(name).ok_or(Reason::ExecutionFailed)?;
        let dot = match pipe {
            Some(pipe) => self.scoped(|this| this.pipe(dot, pipe))?,
            None => Value::Nil,
        };
        // A named template sees only its own dot.
        let variables = std::mem::replace(&mut self.variables, vec![("$", dot.clone())]);
        let result = self.walk(&dot, body);
        self.variables = variables;
        result
    }

    fn assign(&mut self, name: &str, value: Value) -> Result<(), Reason> {
        let variable = self.variables.iter_mut().rev().find(|(n, _)| *n == name).ok_or(Reason::ExecutionFailed)?;
        variable.1 = value;
        Ok(())
    }

    fn pipe(&mut self, dot: &Value, pipe: &'t Pipe) -> Result<Value, Halt> {
        self.at = pipe.at;
        let mut value = None;
        for command in &pipe.commands {
            value = Some(self.command(dot, command, value)?);
        }
        let value = value.unwrap_or(Value::Nil);
        for name in &pipe.variables {
            if pipe.is_assignment {
                self.assign(name, value.clone())?;
            } else {
                self.variables.push((name, value.clone()));
            }
        }
        Ok(value)
    }

    /// `piped` is the value of the command before, which becomes the last argument.
    fn command(&mut self, dot: &Value, command: &'t Command, piped: Option<Value>) -> Result<Value, Halt> {
        let (first, arguments) = command.operands.split_first().ok_or(Reason::ExecutionFailed)?;
        self.at = first.at;
        match &first.kind {
            OperandKind::Function(function) => self.call(dot, first.at, function, arguments, piped),
            OperandKind::Nil => Err(Reason::ExecutionFailed.into()),
            // Only functions take arguments.
            _ if piped.is_some() || !arguments.is_empty() => Err(Reason::ExecutionFailed.into()),
            _ => self.operand(dot, first),
        }
    }

    fn call(
        &mut self,
        dot: &Value,
        at: usize,
        function: &'static Function,
        operands: &'t [Operand],
        piped: Option<Value>,
    ) -> Result<Value, Halt> {
        self.meter.steps(1)?;
        let count = operands.len() + usize::from(piped.is_some());
        if count < function.least || count > function.most {
            return Err(Reason::ExecutionFailed.into());
        }
        if let Some(special) = function.special {
            return self.short_circuit(dot, special, operands, piped);
        }
        let mut arguments = Vec::with_capacity(count);
        for operand in operands {
            arguments.push(self.operand(dot, operand)?);
        }
        arguments.extend(piped);
        self.at = at;
        let mut call = Call { arguments: &arguments, meter: self.meter, patterns: self.patterns };
        Ok((function.run)(&mut call)?)
    }

    /// `and` and `or` evaluate no more than they need.
    fn short_circuit(
        &mut self,
        dot: &Value,
        special: Special,
        operands: &'t [Operand],
        piped: Option<Value>,
    ) -> Result<Value, Halt> {
        let mut last = Value::Nil;
        for operand in operands {
            last = self.operand(dot, operand)?;
            if last.is_true() == (special == Special::Or) {
                return Ok(last);
            }
        }
        Ok(piped.unwrap_or(last))
    }

    fn operand(&mut self, dot: &Value, operand: &'t Operand) -> Result<Value, Halt> {
        self.meter.steps(1)?;
        self.at = operand.at;
        match &operand.kind {
            OperandKind::Dot => Ok(dot.clone()),
            OperandKind::Nil => Ok(Value::Nil),
            OperandKind::Constant(value) => Ok(value.clone()),
            OperandKind::Overflow => Err(Reason::ExecutionFailed.into()),
            OperandKind::Field(fields) => self.fields(dot.clone(), fields),
            OperandKind::Variable(name, fields) => {
                let (_, value) = self.variables.iter().rev().find(|(n, _)| n == name).ok_or(Reason::ExecutionFailed)?;
                self.fields(value.clone(), fields)
            }
            OperandKind::Function(function) => self.call(dot, operand.at, function, &[], None),
            OperandKind::Pipe(pipe) => self.deeper(|this| this.pipe(dot, pipe)),
            OperandKind::Chain(inner, fields) => {
                if matches!(inner.kind, OperandKind::Nil) {
                    return Err(Reason::ExecutionFailed.into());
                }
                let value = self.operand(dot, inner)?;
                self.at = operand.at;
                self.fields(value, fields)
            }
        }
    }

    fn fields(&mut self, mut value: Value, fields: &[String]) -> Result<Value, Halt> {
        for field in fields {
            self.meter.steps(1)?;
            value = match &value {
                Value::Dict(dict) => dict.entries().get(field.as_bytes()).ok_or(Reason::MissingKey)?.clone(),
                Value::Nil => return Err(Reason::MissingKey.into()),
                _ => return Err(Reason::ExecutionFailed.into()),
            };
        }
        Ok(value)
    }
}

fn int(n: usize) -> Value {
    Value::Int(i64::try_from(n).unwrap_or(i64::MAX))
}

/// The root of every template: the opened values as a dict of strings.
pub(super) fn root(values: impl Iterator<Item = (Vec<u8>, Vec<u8>)>) -> Outcome {
    let entries = values.map(|(key, value)| (Text::free(key), Value::Text(Text::free(value)))).collect();
    Ok(Value::Dict(super::value::Dict::free(entries)?))
}
