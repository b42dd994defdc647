//! Tags and parameters, which are texts by key.

use mlflow_wire::Result;
use sea_orm::{ConnectionTrait, DatabaseTransaction};

use crate::sql::{execute, head, insert_all};

/// Sets texts of an owner; the last of a key counts.
pub async fn set(
    tx: &DatabaseTransaction,
    (table, owner): (&str, &str),
    id: &str,
    pairs: &[(String, String)],
) -> Result<()> {
    let mut last: Vec<(String, String)> = Vec::with_capacity(pairs.len());
    for (key, value) in pairs {
        match last.iter_mut().find(|(known, _)| known == key) {
            Some(known) => known.1.clone_from(value),
            None => last.push((key.clone(), value.clone())),
        }
    }
    let rows = last.into_iter().map(|(key, value)| {
        let head = head(&value);
        vec![id.into(), key.into(), value.into(), head.into()]
    });
    insert_all(
        tx,
        &format!("{table} ({owner}, key, value, head)"),
        rows.collect(),
        &format!(
            "ON CONFLICT ({owner}, key) DO UPDATE SET value = excluded.value, head = excluded.head"
        ),
    )
    .await
}

/// Removes a text of an owner; answers whether it was there.
pub async fn remove<C: ConnectionTrait>(
    db: &C,
    (table, owner): (&str, &str),
    id: &str,
    key: &str,
) -> Result<bool> {
    let sql = format!("DELETE FROM {table} WHERE {owner} = $1 AND key = $2");
    Ok(execute(db, &sql, vec![id.into(), key.into()]).await? > 0)
}
