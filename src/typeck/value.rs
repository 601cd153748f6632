//! What an expression can be while a program is elaborated.

use super::scope::Definition;
use crate::graph::{Graph, NodeId, ScalarExpr, show_shape};

#[derive(Clone, Debug)]
pub enum Value<'a> {
    Int(i64),
    Real(f64),
    Bool(bool),
    Text(&'a str),
    /// A word of an enumeration: `same`.
    Word(String),
    List(Vec<Value<'a>>),
    /// A node of the graph.
    Tensor(NodeId),
    /// Inside a `lut`: an expression in its one value.
    Scalar(ScalarExpr),
    Function(Definition<'a>),
    /// No value: a block that ends with a statement.
    Nothing,
    /// An error was reported where this value should come from.
    Poison,
}

impl Value<'_> {
    /// What it is, with its article.
    pub fn what(&self, graph: &Graph) -> String {
        match self {
            Value::Int(n) => format!("the integer {n}"),
            Value::Real(x) => format!("the number {x}"),
            Value::Bool(b) => format!("the condition {b}"),
            Value::Text(_) => "a text".into(),
            Value::Word(word) => format!("the word `{word}`"),
            Value::List(items) => format!("a list of {}", items.len()),
            Value::Tensor(id) => format!("a tensor {}", show_shape(&graph.node(*id).shape)),
            Value::Scalar(_) => "a value of a table".into(),
            Value::Function(definition) => definition.what().into(),
            Value::Nothing => "nothing".into(),
            Value::Poison => "a value with an error".into(),
        }
    }

    /// A number that is known now.
    pub fn number(&self) -> Option<f64> {
        match self {
            Value::Int(n) => Some(*n as f64),
            Value::Real(x) => Some(*x),
            _ => None,
        }
    }

    /// Whether the value is hidden from the server, or may be.
    pub fn is_encrypted(&self) -> bool {
        matches!(self, Value::Tensor(_))
    }
}
