//! What sqlx wants of every database and the model has no use for: it has rows of no columns and values of no kind.

use std::borrow::Cow;
use std::fmt;

use sqlx::error::BoxDynError;
use sqlx::{
    Arguments, Column, ColumnIndex, Either, Encode, Error, Row, SqlStr, Statement, Type, TypeInfo, Value,
    ValueRef,
};

use super::driver::ModelDatabase;

/// What a statement did.
#[derive(Debug, Default)]
pub struct ModelResult;

impl Extend<Self> for ModelResult {
    fn extend<T: IntoIterator<Item = Self>>(&mut self, _results: T) {}
}

/// No row.
#[derive(Debug)]
pub struct ModelRow;

impl Row for ModelRow {
    type Database = ModelDatabase;

    fn columns(&self) -> &[ModelColumn] {
        &[]
    }

    fn try_get_raw<I: ColumnIndex<Self>>(&self, index: I) -> Result<ModelValue, Error> {
        Err(Error::ColumnNotFound(format!("{index:?}")))
    }
}

/// No column.
#[derive(Debug)]
pub struct ModelColumn;

impl Column for ModelColumn {
    type Database = ModelDatabase;

    fn ordinal(&self) -> usize {
        0
    }

    fn name(&self) -> &str {
        ""
    }

    fn type_info(&self) -> &ModelType {
        &ModelType
    }
}

/// No type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelType;

impl fmt::Display for ModelType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl TypeInfo for ModelType {
    fn is_null(&self) -> bool {
        true
    }

    fn name(&self) -> &str {
        "none"
    }
}

/// No value.
#[derive(Debug)]
pub struct ModelValue;

impl Value for ModelValue {
    type Database = ModelDatabase;

    fn as_ref(&self) -> Self {
        Self
    }

    fn type_info(&self) -> Cow<'_, ModelType> {
        Cow::Borrowed(&ModelType)
    }

    fn is_null(&self) -> bool {
        true
    }
}

impl ValueRef<'_> for ModelValue {
    type Database = ModelDatabase;

    fn to_owned(&self) -> Self {
        Self
    }

    fn type_info(&self) -> Cow<'_, ModelType> {
        Cow::Borrowed(&ModelType)
    }

    fn is_null(&self) -> bool {
        true
    }
}

/// No arguments.
#[derive(Debug, Default)]
pub struct ModelArguments;

impl Arguments for ModelArguments {
    type Database = ModelDatabase;

    fn reserve(&mut self, _additional: usize, _size: usize) {}

    fn add<'t, T>(&mut self, _value: T) -> Result<(), BoxDynError>
    where
        T: Encode<'t, ModelDatabase> + Type<ModelDatabase>,
    {
        Err("the model takes no arguments".into())
    }

    fn len(&self) -> usize {
        0
    }
}

sqlx_core::impl_into_arguments_for_arguments!(ModelArguments);
sqlx_core::impl_column_index_for_row!(ModelRow);
sqlx_core::impl_column_index_for_statement!(ModelStatement);

/// No statement.
#[derive(Clone, Debug)]
pub struct ModelStatement(SqlStr);

impl Statement for ModelStatement {
    type Database = ModelDatabase;

    fn into_sql(self) -> SqlStr {
        self.0
    }

    fn sql(&self) -> &SqlStr {
        &self.0
    }

    fn parameters(&self) -> Option<Either<&[ModelType], usize>> {
        None
    }

    fn columns(&self) -> &[ModelColumn] {
        &[]
    }

    sqlx_core::impl_statement_query!(ModelArguments);
}
