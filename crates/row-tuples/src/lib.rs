//! Rows of Postgres as the types that `serde` knows, by the places of their columns.

use std::fmt::Display;

use sea_orm::QueryResult;
use sea_orm::sqlx::postgres::PgRow;
use sea_orm::sqlx::types::Uuid;
use sea_orm::sqlx::{Decode, Postgres, Row, Type, ValueRef};
use serde::de::value::Error;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error as _, SeqAccess, Visitor};
use service_error::ServiceError;

/// A row's columns, each the next field of `T`.
///
/// # Errors
/// `DATABASE_DEFECT`: the row is another database's, or has other columns.
pub fn tuple<T: DeserializeOwned>(row: &QueryResult) -> Result<T, ServiceError> {
    let row = row.try_as_pg_row().ok_or_else(|| defect("a row of another database"))?;
    T::deserialize(&mut Columns { row, at: 0 }).map_err(defect)
}

fn defect(error: impl Display) -> ServiceError {
    ServiceError::internal("the database answered what was not expected")
        .reason("DATABASE_DEFECT")
        .caused_by(std::io::Error::other(error.to_string()))
}

/// The columns that were not read yet.
struct Columns<'r> {
    row: &'r PgRow,
    at: usize,
}

impl<'r> Columns<'r> {
    fn next<T: Decode<'r, Postgres> + Type<Postgres>>(&mut self) -> Result<T, Error> {
        let value = self.row.try_get(self.at).map_err(Error::custom)?;
        self.at += 1;
        Ok(value)
    }

    /// A column of JSON, which the driver has as a text, but under another name.
    fn json(&mut self) -> Result<serde_json::Deserializer<serde_json::de::StrRead<'r>>, Error> {
        let text: &str = self.row.try_get_unchecked(self.at).map_err(Error::custom)?;
        self.at += 1;
        Ok(serde_json::Deserializer::from_str(text))
    }

    fn is_absent(&self) -> Result<bool, Error> {
        Ok(self.row.try_get_raw(self.at).map_err(Error::custom)?.is_null())
    }
}

/// So many columns, as one field of the row or as the row.
struct Fields<'c, 'r> {
    columns: &'c mut Columns<'r>,
    left: usize,
}

impl<'r> SeqAccess<'r> for Fields<'_, 'r> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'r>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        seed.deserialize(&mut *self.columns).map(Some)
    }
}

macro_rules! scalars {
    ($($method:ident: $visit:ident),*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            visitor.$visit(self.next()?)
        }
    )*};
}

impl<'de> Deserializer<'de> for &mut Columns<'de> {
    type Error = Error;

    scalars! {
        deserialize_bool: visit_bool, deserialize_i16: visit_i16, deserialize_i32: visit_i32,
        deserialize_i64: visit_i64, deserialize_f64: visit_f64, deserialize_str: visit_borrowed_str,
        deserialize_string: visit_string
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        // What asks for bytes here is an id, which the database has a type for.
        visitor.visit_bytes(self.next::<Uuid>()?.as_bytes())
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.is_absent()? {
            self.at += 1;
            return visitor.visit_none();
        }
        visitor.visit_some(self)
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        left: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_seq(Fields { columns: self, left })
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        left: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_tuple(left, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_tuple(fields.len(), visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.json()?.deserialize_seq(visitor).map_err(Error::custom)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.json()?.deserialize_map(visitor).map_err(Error::custom)
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::custom("a field whose type does not say what its column is"))
    }

    // Ids are bytes.
    fn is_human_readable(&self) -> bool {
        false
    }

    serde::forward_to_deserialize_any! {
        i8 i128 u8 u16 u32 u64 u128 f32 char byte_buf unit unit_struct enum identifier ignored_any
    }
}
