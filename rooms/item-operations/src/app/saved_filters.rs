//! Filters that are kept under names, each of one dataset. They are checked against the
//! dataset's schema when they are saved, and again when they are used.

use std::sync::Arc;

use caller::Caller;
use filter::{Filter, SavedTexts, is_name, names_in};
use ids::Id;
use options_api::v1::Level;
use service_error::ServiceError;

use crate::app::App;
use crate::app::reading::{Opened, unfit};
use crate::model::{Address, SavedFilter};

/// The service, for denials.
macro_rules! method {
    ($name:literal) => {
        concat!("quarry.items.v1.FiltersService/", $name)
    };
}

const DESCRIPTION_BYTES_MAX: usize = 4_096;
/// Filters of one page at most.
const PAGE_MAX: u32 = 1_000;

/// A change to a saved filter; `None` stays as it is.
#[derive(Debug, Clone, Default)]
pub struct FilterChange {
    /// The filter's text.
    pub filter: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// The filter as the caller knows it; 0: as it is.
    pub revision: i64,
}

impl App {
    /// A filter that fits an opened dataset, saved ones put in; `None` for an empty text.
    ///
    /// # Errors
    /// A filter that does not fit, or names one that is not saved.
    pub async fn filter(
        &self,
        opened: &Opened,
        text: &str,
    ) -> Result<Option<Arc<Filter>>, ServiceError> {
        let names = names_in(text, &opened.schema).map_err(unfit)?;
        let saved = match names.is_empty() {
            true => SavedTexts::new(),
            false => self.store.saved_texts(Id::from_uuid(opened.dataset), &names).await?,
        };
        opened.filter(text, &saved)
    }

    /// Saves a filter under a new name.
    ///
    /// # Errors
    /// A name that is taken or no name; a filter that does not fit; a dataset that the caller
    /// may not write to.
    pub async fn create_filter(
        &self,
        caller: &Caller,
        address: &Address,
        (name, text, description): (&str, &str, &str),
    ) -> Result<SavedFilter, ServiceError> {
        let opened = self.writable(caller, address, method!("CreateFilter")).await?;
        if !is_name(name) {
            let message = "is a letter, then letters, digits, _ and -; at most 63 of them";
            return Err(ServiceError::invalid("name", message));
        }
        check(&opened, text, description)?;
        let created_by = caller.principal;
        self.store
            .add_filter(Id::from_uuid(opened.dataset), created_by, (name, text, description))
            .await
    }

    /// A saved filter.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn get_filter(
        &self,
        caller: &Caller,
        address: &Address,
        name: &str,
    ) -> Result<SavedFilter, ServiceError> {
        let opened = self.open(caller, address, "", method!("GetFilter")).await?;
        self.store.saved_filter(Id::from_uuid(opened.dataset), name).await
    }

    /// A page of the saved filters by name, and the token of the next.
    ///
    /// # Errors
    /// A page size or token that is none; no such dataset.
    pub async fn list_filters(
        &self,
        caller: &Caller,
        address: &Address,
        (page_size, page_token): (i32, &str),
    ) -> Result<(Vec<SavedFilter>, String), ServiceError> {
        let opened = self.open(caller, address, "", method!("ListFilters")).await?;
        let size = paging::page_size(page_size, PAGE_MAX)? as usize;
        if !page_token.is_empty() && !is_name(page_token) {
            let message = "is no page token; repeat the list without one";
            return Err(ServiceError::invalid("page_token", message));
        }
        let mut found = self
            .store
            .saved_filters(Id::from_uuid(opened.dataset), page_token, size as u64 + 1)
            .await?;
        let more = found.len() > size;
        found.truncate(size);
        let next = found.last().filter(|_| more).map(|last| last.name.clone());
        Ok((found, next.unwrap_or_default()))
    }

    /// Changes a saved filter.
    ///
    /// # Errors
    /// As [`App::create_filter`]; `Aborted` if somebody changed it since.
    pub async fn update_filter(
        &self,
        caller: &Caller,
        address: &Address,
        name: &str,
        change: FilterChange,
    ) -> Result<SavedFilter, ServiceError> {
        let opened = self.writable(caller, address, method!("UpdateFilter")).await?;
        let known = self.store.saved_filter(Id::from_uuid(opened.dataset), name).await?;
        if change.revision != 0 && change.revision != known.revision {
            return Err(changed(name));
        }
        let filter = change.filter.unwrap_or_else(|| known.filter.clone());
        let description = change.description.unwrap_or_else(|| known.description.clone());
        check(&opened, &filter, &description)?;
        let new = SavedFilter { filter, description, ..known };
        self.store
            .change_filter(Id::from_uuid(opened.dataset), new)
            .await?
            .ok_or_else(|| changed(name))
    }

    /// Forgets a saved filter.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn delete_filter(
        &self,
        caller: &Caller,
        address: &Address,
        name: &str,
    ) -> Result<(), ServiceError> {
        let opened = self.writable(caller, address, method!("DeleteFilter")).await?;
        self.store.forget_filter(Id::from_uuid(opened.dataset), name).await
    }

    async fn writable(
        &self,
        caller: &Caller,
        address: &Address,
        action: &'static str,
    ) -> Result<Opened, ServiceError> {
        let opened = self.open_now(caller, address).await?;
        self.allow(caller, &opened, Level::Write, action).await?;
        Ok(opened)
    }
}

fn check(opened: &Opened, text: &str, description: &str) -> Result<(), ServiceError> {
    if text.trim().is_empty() {
        return Err(ServiceError::invalid("filter", "is empty"));
    }
    if description.len() > DESCRIPTION_BYTES_MAX {
        let message = format!("has at most {DESCRIPTION_BYTES_MAX} bytes");
        return Err(ServiceError::invalid("description", message));
    }
    if !names_in(text, &opened.schema).map_err(unfit)?.is_empty() {
        let message = "names a saved filter; write out what that one says";
        return Err(ServiceError::invalid("filter", message).reason("FILTER_INVALID"));
    }
    opened.filter(text, &SavedTexts::new()).map(drop)
}

fn changed(name: &str) -> ServiceError {
    let message = format!("the saved filter {name:?} was changed since; read it again");
    ServiceError::conflict(message).reason("REVISION_CHANGED")
}
