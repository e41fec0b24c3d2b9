//! From tokens to expressions, by recursive descent.

use std::collections::BTreeMap;

use super::lexer::{Token, tokens};
use super::{Arithmetic, Comparison, DEEPEST, Expression, Property};
use crate::model::Value;

pub(super) fn condition(text: &str, parameters: &BTreeMap<String, Value>) -> Result<Expression, String> {
    let mut parser = Parser::new(text, parameters)?;
    let expression = parser.disjunction()?;
    match parser.peek() {
        None => Ok(expression),
        Some(_) => Err(parser.unexpected("the end or an operator")),
    }
}

pub(super) struct Parser<'a> {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
    parameters: &'a BTreeMap<String, Value>,
}

/// Words that are no property's name unless they are delimited.
const KEYWORDS: [&str; 15] = [
    "and", "or", "not", "like", "escape", "in", "is", "null", "exists", "true", "false", "set", "remove",
    "sys", "user",
];

impl<'a> Parser<'a> {
    pub(super) fn new(text: &str, parameters: &'a BTreeMap<String, Value>) -> Result<Self, String> {
        Ok(Self { tokens: tokens(text)?, at: 0, depth: 0, parameters })
    }

    pub(super) fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    pub(super) fn unexpected(&self, wanted: &str) -> String {
        let found = match self.peek() {
            None => "the expression ends".to_owned(),
            Some(Token::Word(word) | Token::Delimited(word)) => format!("`{word}` stands"),
            Some(Token::Text(text)) => format!("'{text}' stands"),
            Some(Token::Integer(n)) => format!("{n} stands"),
            // A large one without its zeros.
            Some(Token::Double(n)) => format!("{n:?} stands"),
            Some(Token::Parameter(name)) => format!("@{name} stands"),
            Some(Token::Sign(sign)) => format!("`{sign}` stands"),
        };
        format!("{found} where {wanted} is expected")
    }

    pub(super) fn word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Word(found)) if found.eq_ignore_ascii_case(word));
        self.at += usize::from(found);
        found
    }

    pub(super) fn sign(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Sign(found)) if *found == sign);
        self.at += usize::from(found);
        found
    }

    pub(super) fn expect_sign(&mut self, sign: &str) -> Result<(), String> {
        if self.sign(sign) { Ok(()) } else { Err(self.unexpected(&format!("`{sign}`"))) }
    }

    fn deeper<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T, String>) -> Result<T, String> {
        if self.depth == DEEPEST {
            return Err(format!("the expression is nested more than {DEEPEST} deep"));
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    fn disjunction(&mut self) -> Result<Expression, String> {
        let mut left = self.conjunction()?;
        while self.word("or") {
            left = Expression::Or(Box::new(left), Box::new(self.conjunction()?));
        }
        Ok(left)
    }

    fn conjunction(&mut self) -> Result<Expression, String> {
        let mut left = self.negation()?;
        while self.word("and") {
            left = Expression::And(Box::new(left), Box::new(self.negation()?));
        }
        Ok(left)
    }

    fn negation(&mut self) -> Result<Expression, String> {
        if self.word("not") {
            return Ok(Expression::Not(Box::new(self.deeper(Self::negation)?)));
        }
        self.predicate()
    }

    fn predicate(&mut self) -> Result<Expression, String> {
        let left = self.sum()?;
        for (sign, comparison) in [
            ("=", Comparison::Equal),
            ("<>", Comparison::Unequal),
            ("!=", Comparison::Unequal),
            ("<=", Comparison::LessOrEqual),
            (">=", Comparison::GreaterOrEqual),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
        ] {
            if self.sign(sign) {
                return Ok(Expression::Compare(comparison, Box::new(left), Box::new(self.sum()?)));
            }
        }
        if self.word("is") {
            let negated = self.word("not");
            if !self.word("null") {
                return Err(self.unexpected("NULL"));
            }
            return Ok(negate_if(negated, Expression::IsNull(Box::new(left))));
        }
        let negated = self.word("not");
        if self.word("in") {
            self.expect_sign("(")?;
            let mut choices = vec![self.sum()?];
            while self.sign(",") {
                choices.push(self.sum()?);
            }
            self.expect_sign(")")?;
            return Ok(negate_if(negated, Expression::In(Box::new(left), choices)));
        }
        if self.word("like") {
            let pattern = Box::new(self.sum()?);
            let escape = if self.word("escape") { Some(Box::new(self.sum()?)) } else { None };
            return Ok(negate_if(negated, Expression::Like { text: Box::new(left), pattern, escape }));
        }
        if negated { Err(self.unexpected("IN or LIKE")) } else { Ok(left) }
    }

    pub(super) fn sum(&mut self) -> Result<Expression, String> {
        let mut left = self.product()?;
        loop {
            let operator = match () {
                () if self.sign("+") => Arithmetic::Add,
                () if self.sign("-") => Arithmetic::Subtract,
                () => return Ok(left),
            };
            left = Expression::Arithmetic(operator, Box::new(left), Box::new(self.product()?));
        }
    }

    fn product(&mut self) -> Result<Expression, String> {
        let mut left = self.unary()?;
        loop {
            let operator = match () {
                () if self.sign("*") => Arithmetic::Multiply,
                () if self.sign("/") => Arithmetic::Divide,
                () if self.sign("%") => Arithmetic::Remainder,
                () => return Ok(left),
            };
            left = Expression::Arithmetic(operator, Box::new(left), Box::new(self.unary()?));
        }
    }

    fn unary(&mut self) -> Result<Expression, String> {
        if self.sign("-") {
            return Ok(Expression::Negative(Box::new(self.deeper(Self::unary)?)));
        }
        if self.sign("+") {
            return Ok(Expression::Positive(Box::new(self.deeper(Self::unary)?)));
        }
        self.primary()
    }

    fn primary(&mut self) -> Result<Expression, String> {
        if self.sign("(") {
            let inner = self.deeper(Self::disjunction)?;
            self.expect_sign(")")?;
            return Ok(inner);
        }
        for (word, value) in
            [("true", Value::Bool(true)), ("false", Value::Bool(false)), ("null", Value::Null)]
        {
            if self.word(word) {
                return Ok(Expression::Constant(value));
            }
        }
        if self.word("exists") {
            self.expect_sign("(")?;
            let property = self.property()?;
            self.expect_sign(")")?;
            return Ok(Expression::Exists(property));
        }
        let constant = match self.peek() {
            Some(Token::Text(text)) => Some(Value::String(text.clone())),
            Some(Token::Integer(n)) => Some(Value::Long(*n)),
            Some(Token::Double(n)) => Some(Value::Double(*n)),
            Some(Token::Parameter(name)) => Some(self.parameter(name)?),
            _ => None,
        };
        if let Some(value) = constant {
            self.at += 1;
            return Ok(Expression::Constant(value));
        }
        if self.is_call("newid") {
            self.at += 2;
            self.expect_sign(")")?;
            return Ok(Expression::NewId);
        }
        self.property().map(Expression::Property)
    }

    fn parameter(&self, name: &str) -> Result<Value, String> {
        // Service Bus's clients give the names with and without the sign.
        let found = self
            .parameters
            .iter()
            .find(|(key, _)| key.strip_prefix('@').unwrap_or(key).eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.clone()).ok_or_else(|| format!("the parameter @{name} has no value"))
    }

    fn is_call(&self, function: &str) -> bool {
        matches!(self.peek(), Some(Token::Word(word)) if word.eq_ignore_ascii_case(function))
            && self.tokens.get(self.at + 1) == Some(&Token::Sign("("))
    }

    /// `name`, `user.name`, `sys.name`, `property(name)` or `p(name)`.
    pub(super) fn property(&mut self) -> Result<Property, String> {
        if self.is_call("property") || self.is_call("p") {
            self.at += 2;
            let property = if let Some(Token::Text(name)) = self.peek() {
                let property = Property::User(name.clone());
                self.at += 1;
                property
            } else {
                self.property_name()?
            };
            self.expect_sign(")")?;
            return Ok(property);
        }
        self.property_name()
    }

    fn property_name(&mut self) -> Result<Property, String> {
        let scope = match (self.peek(), self.tokens.get(self.at + 1)) {
            (Some(Token::Word(scope)), Some(Token::Sign("."))) => Some(scope.to_ascii_lowercase()),
            _ => None,
        };
        let make = match scope.as_deref() {
            None | Some("user") => Property::User,
            Some("sys") => Property::System,
            Some(other) => {
                return Err(format!("`{other}` is not a scope: there are `sys` and `user`"));
            }
        };
        self.at += if scope.is_some() { 2 } else { 0 };
        let name = match self.peek() {
            Some(Token::Delimited(name)) => name.clone(),
            // Behind a scope any word can only be a name.
            Some(Token::Word(name)) if scope.is_some() || !is_keyword(name) => name.clone(),
            _ => return Err(self.unexpected("a property, a constant or a parenthesis")),
        };
        self.at += 1;
        Ok(make(name))
    }
}

fn is_keyword(word: &str) -> bool {
    KEYWORDS.iter().any(|keyword| word.eq_ignore_ascii_case(keyword))
}

fn negate_if(negated: bool, expression: Expression) -> Expression {
    if negated { Expression::Not(Box::new(expression)) } else { expression }
}
