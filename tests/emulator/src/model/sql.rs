//! SQL conditions and actions of rules.
//!
//! The language is the one of
//! <https://learn.microsoft.com/azure/service-bus-messaging/service-bus-messaging-sql-filter>: three-valued logic,
//! where a property that isn't there is unknown, and C#'s arithmetic.

mod action;
mod evaluate;
mod lexer;
mod like;
mod parser;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Value;

pub(super) use action::Action;
pub(super) use evaluate::{Exception, Subject, equal};

/// Characters of an expression.
const LONGEST: usize = 1024;
/// Parentheses and signs within each other. Text from outside must not decide how deep the stack gets.
const DEEPEST: usize = 64;
/// Statements of an action.
const STATEMENTS: usize = 32;

/// A parsed condition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Condition(Expression);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Expression {
    Constant(Value),
    Property(Property),
    NewId,
    Negative(Box<Self>),
    /// A plus sign changes nothing, but what stands behind must be a number.
    Positive(Box<Self>),
    Arithmetic(Arithmetic, Box<Self>, Box<Self>),
    Compare(Comparison, Box<Self>, Box<Self>),
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
    Not(Box<Self>),
    IsNull(Box<Self>),
    In(Box<Self>, Vec<Self>),
    Like {
        text: Box<Self>,
        pattern: Box<Self>,
        escape: Option<Box<Self>>,
    },
    Exists(Property),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Property {
    System(String),
    User(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Comparison {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Condition {
    pub(super) fn parse(text: &str, parameters: &BTreeMap<String, Value>) -> Result<Self, String> {
        parser::condition(text, parameters).map(Self)
    }

    /// Unknown counts as no.
    pub(super) fn holds(&self, subject: &mut Subject<'_>) -> Result<bool, Exception> {
        Ok(evaluate::truth(&self.0, subject)? == Some(true))
    }
}

#[cfg(test)]
mod tests;
