//! Leases of upkeep. They keep replicas from doing the same work at once; that
//! the work is right whoever does it, is the fence's and the catalog's.

use sea_orm::{ConnectionTrait, Statement, Value};
use service_error::ServiceError;
use sql_store::{db_error, now_micros};

use crate::store::Store;

/// Work that is ours until the lease ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpkeepLease {
    /// The work.
    pub name: String,
    /// Which holder it is: it only grows.
    pub epoch: i64,
}

impl Store {
    /// Takes the lease of some work, for so many microseconds; `None`: it is
    /// somebody's.
    ///
    /// # Errors
    /// As [`db_error`].
    pub async fn take_lease(
        &self,
        name: &str,
        micros: i64,
    ) -> Result<Option<UpkeepLease>, ServiceError> {
        let now = now_micros();
        let tx = self.sql.begin().await?;
        let sql = "INSERT INTO upkeep_lease (name, lease_epoch, expires_at) VALUES ($1, 1, $2) \
            ON CONFLICT (name) DO UPDATE SET lease_epoch = upkeep_lease.lease_epoch + 1, expires_at = $2 \
            WHERE upkeep_lease.expires_at < $3 RETURNING lease_epoch";
        let values: [Value; 3] = [name.into(), (now + micros).into(), now.into()];
        let take = Statement::from_sql_and_values(tx.get_database_backend(), sql, values);
        let row = tx.query_one_raw(take).await.map_err(db_error)?;
        let epoch = row.map(|row| row.try_get("", "lease_epoch")).transpose().map_err(db_error)?;
        tx.commit().await.map_err(db_error)?;
        Ok(epoch.map(|epoch| UpkeepLease { name: name.to_owned(), epoch }))
    }

    /// Prolongs a lease; false: somebody else has it.
    ///
    /// # Errors
    /// As [`db_error`].
    pub async fn renew_lease(
        &self,
        lease: &UpkeepLease,
        micros: i64,
    ) -> Result<bool, ServiceError> {
        self.set_lease_end(lease, now_micros() + micros).await
    }

    /// Lets others have the work; nothing happens if they have it already.
    ///
    /// # Errors
    /// As [`db_error`].
    pub async fn end_lease(&self, lease: &UpkeepLease) -> Result<(), ServiceError> {
        self.set_lease_end(lease, now_micros() - 1).await.map(drop)
    }

    async fn set_lease_end(&self, lease: &UpkeepLease, at: i64) -> Result<bool, ServiceError> {
        let tx = self.sql.begin().await?;
        let sql = "UPDATE upkeep_lease SET expires_at = $1 WHERE name = $2 AND lease_epoch = $3";
        let values: [Value; 3] = [at.into(), lease.name.clone().into(), lease.epoch.into()];
        let set = Statement::from_sql_and_values(tx.get_database_backend(), sql, values);
        let is_ours = tx.execute_raw(set).await.map_err(db_error)?.rows_affected() == 1;
        tx.commit().await.map_err(db_error)?;
        Ok(is_ours)
    }

    /// Forgets leases that ended before a time, of work that may be no more.
    ///
    /// # Errors
    /// As [`db_error`].
    pub async fn forget_leases(&self, ended_before: i64) -> Result<(), ServiceError> {
        let tx = self.sql.begin().await?;
        let sql = "DELETE FROM upkeep_lease WHERE expires_at < $1";
        let forget =
            Statement::from_sql_and_values(tx.get_database_backend(), sql, [ended_before.into()]);
        tx.execute_raw(forget).await.map_err(db_error)?;
        tx.commit().await.map_err(db_error)
    }
}
