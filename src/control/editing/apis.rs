//! Edits APIs, with their resources, deployments and stages, and the account of all of them.

use std::collections::BTreeMap;

use serde_json::Value;

use super::session::EditSession;
use crate::control::model::{Account, ControlError, Document, RestApi};

/// Reads and changes APIs.
pub struct ApiEditor<'e> {
    session: &'e EditSession,
}

impl<'e> ApiEditor<'e> {
    pub(super) fn new(session: &'e EditSession) -> Self {
        Self { session }
    }

    /// The registry's APIs and plans as they are now.
    ///
    /// # Errors
    /// If the registry cannot be read.
    pub async fn document(&self) -> Result<Document, ControlError> {
        self.session.document().await
    }

    /// Creates or changes an API, or a part of one.
    ///
    /// # Errors
    /// If the API is the catalog file's, `change` fails, the result makes no valid catalog, or the
    /// registry is unreachable.
    pub async fn edit<T>(
        &self,
        id: &str,
        change: impl Fn(&mut Document) -> Result<T, ControlError>,
    ) -> Result<T, ControlError> {
        if self.session.files().has_api(id) {
            return Err(ControlError::owned_by_file("API", id));
        }
        self.session.edit_document(change).await
    }

    /// Changes the account.
    ///
    /// # Errors
    /// If `change` fails, or the registry is unreachable.
    pub async fn edit_account<T>(
        &self,
        change: impl Fn(&mut Account) -> Result<T, ControlError>,
    ) -> Result<T, ControlError> {
        self.session.edit_document(|document| change(&mut document.account)).await
    }

    /// All APIs by their ids, of the registry and of the catalog file, as the admin API shows them.
    ///
    /// # Errors
    /// If the registry cannot be read.
    pub async fn list(&self) -> Result<BTreeMap<String, Value>, ControlError> {
        let document = self.document().await?;
        let mut apis = self.session.files().apis();
        apis.extend(document.rest_apis.iter().map(|(id, api)| (id.clone(), api.to_aws_json())));
        Ok(apis)
    }

    /// The API with this id, of the registry or of the catalog file.
    ///
    /// # Errors
    /// If there is none, or the registry cannot be read.
    pub async fn get(&self, id: &str) -> Result<RestApi, ControlError> {
        match self.session.files().api(id) {
            Some(from_file) => Ok(from_file),
            None => self.document().await?.take_api(id),
        }
    }
}
