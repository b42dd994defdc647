//! Unique columns: declared under the fence, checked by whatever brings values.

use std::collections::{HashMap, HashSet};

use arrow::array::RecordBatch;
use blocks::WrittenBlock;
use caller::Caller;
use catalog_api::v1::CommitVersionRequest;
use item_manifests::unique::Unique;
use options_api::v1::Level;
use roaring::RoaringBitmap;
use row_delta::keys_of;
use service_error::ServiceError;

use crate::app::App;
use crate::app::edits::projected;
use crate::app::merge::{Change, Merge, Plan, taken};
use crate::app::reading::Opened;
use crate::app::view::View;
use crate::model::{Address, check_columns};

const DECLARE: &str = "quarry.items.v1.EditsService/SetUniqueColumns";

impl App {
    /// Makes these columns the unique ones of a dataset, once its rows are seen to be so.
    ///
    /// # Errors
    /// Columns that cannot be unique; `AlreadyExists` for a value that two rows have.
    pub async fn declare_unique(
        &self,
        caller: &Caller,
        address: &Address,
        columns: &[String],
    ) -> Result<(), ServiceError> {
        let opened = self.open_now(caller, address).await?;
        self.allow(caller, &opened, Level::Admin, DECLARE).await?;
        check_columns(&opened.schema, &opened.key, columns)?;
        let mut lease = self.leased(caller, opened.dataset).await?;
        let commit = CommitVersionRequest { unnamed: true, ..CommitVersionRequest::default() };
        let change = Change::Declare(columns);
        self.merge_fenced(caller, &opened, lease.upload(), change, commit).await?;
        lease.done();
        Ok(())
    }

    /// Refuses a merge after which two rows would have a value of a unique column.
    pub async fn check_merge(
        &self,
        opened: &Opened,
        view: &View,
        plan: &Plan,
        merge: &Merge<'_>,
        flushed: &[WrittenBlock],
    ) -> Result<(), ServiceError> {
        let (columns, is_known) = match &merge.change {
            Change::Keep | Change::DeleteKeys(_) | Change::DeleteWhere(_) => return Ok(()),
            Change::PatchWhere(_, change) if !change.touches_unique(opened) => return Ok(()),
            Change::Declare(columns) => (*columns, false),
            _ => (opened.unique.as_slice(), true),
        };
        if columns.is_empty() {
            return Ok(());
        }
        let mut blocks = view.blocks.as_ref().clone();
        for (at, gone) in &plan.deletions {
            if let Some(block) = blocks.get_mut(*at) {
                block.hide(gone.clone());
            }
        }
        // The delta's rows last: of two rows that have a value the later one is named.
        let brought: Vec<WrittenBlock> =
            merge.change.brought().iter().chain(flushed).cloned().collect();
        let unique = Unique { columns, ..self.unique(opened) };
        unique.check_blocks(&brought, merge.change.brought().len(), &blocks, is_known).await
    }

    /// Refuses an earlier snapshot in which two rows have a value of a column that is unique now;
    /// answers the columns.
    pub async fn check_earlier(
        &self,
        caller: &Caller,
        then: Opened,
    ) -> Result<Vec<String>, ServiceError> {
        let blocks = self.manifest(caller, &then).await?;
        self.unique(&then).check_blocks(&[], 0, &blocks, false).await?;
        Ok(then.unique)
    }

    /// Refuses an edit after which two rows would have a value of a unique column.
    pub async fn check_edited(
        &self,
        opened: &Opened,
        view: &View,
        live: &RecordBatch,
        dead: Option<&RecordBatch>,
    ) -> Result<(), ServiceError> {
        // Rows that the edit changes or takes away do not count.
        let mut gone: HashMap<usize, RoaringBitmap> = HashMap::new();
        let mut gone_of_tail = HashSet::new();
        for changed in [Some(live), dead].into_iter().flatten() {
            let Some(keys) = changed.column_by_name(&opened.key) else { continue };
            let places = self.locate(opened, &view.blocks, keys).await?;
            for place in places.into_iter().flatten() {
                gone.entry(place.block).or_default().extend(u32::try_from(place.row));
            }
            let keys = keys_of(keys)?;
            gone_of_tail
                .extend(keys.iter().filter_map(|key| view.changed.get(key.as_slice()).copied()?));
        }
        let mut blocks = view.blocks.as_ref().clone();
        for (at, rows) in gone {
            if let Some(block) = blocks.get_mut(at) {
                block.hide(rows);
            }
        }
        let columns: Vec<String> = opened.unique.iter().chain([&opened.key]).cloned().collect();
        let schema = opened.project(&columns)?;
        let tail = match &view.tail {
            None => None,
            Some(tail) => {
                let rows = 0..tail.num_rows();
                let kept: Vec<usize> = rows.filter(|row| !gone_of_tail.contains(row)).collect();
                Some(taken(&projected(tail, &schema)?, &kept)?)
            }
        };
        self.unique(opened).check_rows(live, tail.as_ref(), &blocks).await
    }

    fn unique<'a>(&'a self, opened: &'a Opened) -> Unique<'a> {
        Unique {
            reader: &self.reader,
            address: &opened.address,
            schema: &opened.schema,
            key: &opened.key,
            items_profile: opened.items_profile,
            columns: &opened.unique,
        }
    }
}
