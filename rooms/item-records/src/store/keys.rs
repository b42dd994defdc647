//! The key ring's rows.

use rand::RngCore;
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, Set};
use service_error::ServiceError;
use sql_store::{db_error, next_number, now_micros};

use crate::model::{Key, KeyRing};
use crate::store::Store;
use crate::store::entity::key_ring as row;

/// A key seals for a day.
const SEAL_MICROS: i64 = 24 * 3_600 * 1_000_000;
/// Nothing sealed is good for longer than an hour; an hour more for clocks.
const OPEN_MICROS: i64 = SEAL_MICROS + 2 * 3_600 * 1_000_000;

impl Store {
    /// All keys that may open something.
    ///
    /// # Errors
    /// As [`db_error`].
    pub async fn key_ring(&self) -> Result<KeyRing, ServiceError> {
        ring(self.read(), now_micros()).await
    }

    /// The ring with a key that may seal: a new one if the newest is a day old.
    /// Replicas that ask at once agree on one.
    ///
    /// # Errors
    /// As [`db_error`].
    pub async fn rotate_keys(&self) -> Result<KeyRing, ServiceError> {
        let now = now_micros();
        let is_fresh = |ring: &KeyRing| ring.newest().is_some_and(|at| at > now - SEAL_MICROS);
        let known = ring(self.read(), now).await?;
        if is_fresh(&known) {
            return Ok(known);
        }
        let tx = self.sql.begin().await?;
        // The counter's row is the lock: who waited finds the other's key.
        let id = next_number(&tx, "key_ring").await?;
        let known = ring(&tx, now).await?;
        if is_fresh(&known) {
            return Ok(known);
        }
        let mut secret = [0; 32];
        rand::rng().fill_bytes(&mut secret);
        let made =
            row::ActiveModel { id: Set(id), secret: Set(secret.to_vec()), created_at: Set(now) };
        row::Entity::insert(made).exec_without_returning(&tx).await.map_err(db_error)?;
        let old = row::Entity::delete_many().filter(row::Column::CreatedAt.lte(now - OPEN_MICROS));
        old.exec(&tx).await.map_err(db_error)?;
        let ring = ring(&tx, now).await?;
        tx.commit().await.map_err(db_error)?;
        Ok(ring)
    }
}

async fn ring<C: ConnectionTrait>(db: &C, now: i64) -> Result<KeyRing, ServiceError> {
    let rows = row::Entity::find()
        .filter(row::Column::CreatedAt.gt(now - OPEN_MICROS))
        .order_by_asc(row::Column::Id)
        .all(db)
        .await
        .map_err(db_error)?;
    let keys = rows.into_iter().filter_map(|row| {
        Some(Key { id: row.id, secret: row.secret.try_into().ok()?, created_at: row.created_at })
    });
    Ok(KeyRing::new(keys.collect()))
}
