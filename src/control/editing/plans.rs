//! Edits usage plans; the keys on them are edited in `plan_keys`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::plan_keys::PlanKeyEditor;
use super::session::EditSession;
use crate::catalog::Catalog;
use crate::control::model::{ApiStage, ControlError, Document, PlanSpec, UsagePlan, id_from_name};

/// Reads and changes usage plans.
pub struct PlanEditor<'e> {
    session: &'e EditSession,
}

impl<'e> PlanEditor<'e> {
    pub(super) fn new(session: &'e EditSession) -> Self {
        Self { session }
    }

    /// Creates a plan.
    ///
    /// # Errors
    /// If another plan has the requested id, it serves a stage that does not exist, the result
    /// makes no valid catalog, or the registry is unreachable.
    pub async fn create(&self, spec: PlanSpec) -> Result<UsagePlan, ControlError> {
        let files = self.session.files();
        let left_over = self.left_over(id_from_name(&spec.name)).await?;
        let create = self.session.edit_document(|document| {
            let plans = &mut document.usage_plans;
            let is_taken = |id: &str| {
                plans.contains_key(id) || files.has_plan(id) || left_over.as_deref() == Some(id)
            };
            let plan = UsagePlan::new(spec.clone(), is_taken)?;
            let id = &plan.id;
            if files.has_plan(id) {
                return Err(ControlError::owned_by_file("usage plan", id));
            }
            if plans.insert(id.clone(), plan.clone()).is_some() {
                let why = format!("The usage plan {id} exists already");
                return Err(ControlError::Conflict(why));
            }
            self.ensure_stages(&plan, document)?;
            Ok(plan)
        });
        create.await
    }

    /// The id if keys are on a plan of this id. If there is no such plan, its deletion was
    /// interrupted among its keys, and a new plan must not find them.
    async fn left_over(&self, id: Option<String>) -> Result<Option<String>, ControlError> {
        let Some(id) = id else { return Ok(None) };
        let keys = PlanKeyEditor::new(self.session).registry_ids(&id, None, 1).await?;
        Ok(Some(id).filter(|_| !keys.is_empty()))
    }

    /// Changes a plan.
    ///
    /// # Errors
    /// If the plan is the catalog file's, `change` fails, the plan serves a stage that does not
    /// exist, the result makes no valid catalog, or the registry is unreachable.
    pub async fn edit<T>(
        &self,
        id: &str,
        change: impl Fn(&mut Document) -> Result<T, ControlError>,
    ) -> Result<T, ControlError> {
        if self.session.files().has_plan(id) {
            return Err(ControlError::owned_by_file("usage plan", id));
        }
        let edit = self.session.edit_document(|document| self.change(id, document, &change));
        edit.await
    }

    /// Changes a plan in the document.
    fn change<T>(
        &self,
        id: &str,
        document: &mut Document,
        change: impl FnOnce(&mut Document) -> Result<T, ControlError>,
    ) -> Result<T, ControlError> {
        let made = change(document)?;
        document.usage_plans.get(id).map_or(Ok(()), |plan| self.ensure_stages(plan, document))?;
        Ok(made)
    }

    /// Checks that the stages that a plan serves exist, in the document or in the catalog file.
    fn ensure_stages(&self, plan: &UsagePlan, document: &Document) -> Result<(), ControlError> {
        for ApiStage { api_id, stage, .. } in &plan.spec.api_stages {
            let api = document.rest_apis.get(api_id);
            if api.is_none_or(|api| !api.stages.contains_key(stage))
                && !self.session.files().has_stage(api_id, stage)
            {
                return Err(ControlError::no_api_stage(api_id, stage, &plan.id));
            }
        }
        Ok(())
    }

    /// The catalog that a change of a plan would make. Nothing is committed.
    ///
    /// # Errors
    /// As [`PlanEditor::edit`].
    pub async fn preview(
        &self,
        id: &str,
        change: impl FnOnce(&mut Document) -> Result<(), ControlError>,
    ) -> Result<Arc<Catalog>, ControlError> {
        if self.session.files().has_plan(id) {
            return Err(ControlError::owned_by_file("usage plan", id));
        }
        let mut document = self.session.document().await?;
        self.change(id, &mut document, change)?;
        self.session.live.preview(&document)
    }

    /// All plans by their ids, of the registry and of the catalog file, as the admin API shows
    /// them.
    ///
    /// # Errors
    /// If the registry cannot be read.
    pub async fn list(&self) -> Result<BTreeMap<String, Value>, ControlError> {
        let document = self.session.document().await?;
        let mut plans = self.session.files().plans();
        plans.extend(document.usage_plans.iter().map(|(id, plan)| (id.clone(), json!(plan))));
        Ok(plans)
    }

    /// The plan with this id, as the admin API shows it.
    ///
    /// # Errors
    /// If there is none, or the registry cannot be read.
    pub async fn get(&self, id: &str) -> Result<Value, ControlError> {
        match self.session.files().plan(id) {
            Some(from_file) => Ok(from_file),
            None => Ok(json!(self.session.document().await?.plan(id)?)),
        }
    }

    /// Deletes a plan, and removes all keys from it.
    ///
    /// # Errors
    /// If there is none, it serves a stage or is the catalog file's, or the registry is unreachable.
    pub async fn delete(&self, plan: &str) -> Result<(), ControlError> {
        let removed = self.edit(plan, |document| document.remove_plan(plan));
        // A client whose deletion was interrupted among the keys retries it: a later plan with
        // this id must not find them.
        let removed = match removed.await {
            Err(error @ ControlError::NotFound(_)) => Err(error),
            removed => Ok(removed?),
        };
        let had_keys = PlanKeyEditor::new(self.session).remove_all(plan).await?;
        if had_keys { Ok(()) } else { removed }
    }
}
