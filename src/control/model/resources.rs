//! Resources: the paths of an API, as a tree, with their methods.
//!
//! A resource's path is made of the parts of those above it. Methods are in `methods`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::api_definition::PathMethods;
use super::error::ControlError;
use super::ids::random_alphanumeric;
use super::methods::Method;
use super::patch::{Patch, PatchOp};

/// The most resources of an API that a document defines.
const MAX_DEFINED_RESOURCES: usize = 10_000;
/// The largest size of a path that a document defines, in bytes.
const MAX_PATH_BYTES: usize = 1_024;

/// A path and its methods.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resource {
    /// Random letters and digits.
    pub id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_part: Option<String>,
    /// The whole path.
    pub path: String,
    /// Methods by the HTTP method, or `ANY`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub resource_methods: BTreeMap<String, Method>,
}

/// The resources of an API, by their ids.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Resources(BTreeMap<String, Resource>);

impl Resource {
    /// The resource in AWS' responses, without its methods' members unless `with_methods`.
    #[must_use]
    pub fn to_aws_json(&self, with_methods: bool) -> Value {
        let mut shown = json!(self);
        if !self.resource_methods.is_empty() {
            let methods = self.resource_methods.iter();
            // AWS always returns the names of the methods.
            let render = |method: &Method| {
                if with_methods { method.to_aws_json(&self.id) } else { json!({}) }
            };
            shown["resourceMethods"] =
                methods.map(|(name, method)| (name.clone(), render(method))).collect();
        }
        shown
    }

    /// The method with this name.
    ///
    /// # Errors
    /// If there is none.
    pub fn method(&self, name: &str) -> Result<&Method, ControlError> {
        self.resource_methods.get(name).ok_or_else(|| ControlError::not_found("Method"))
    }

    /// The method with this name.
    ///
    /// # Errors
    /// If there is none.
    pub fn method_mut(&mut self, name: &str) -> Result<&mut Method, ControlError> {
        self.resource_methods.get_mut(name).ok_or_else(|| ControlError::not_found("Method"))
    }
}

impl Resources {
    /// The root alone, with this id.
    pub(super) fn new(root_id: String) -> Self {
        let root = Resource {
            id: root_id,
            parent_id: None,
            path_part: None,
            path: "/".into(),
            resource_methods: BTreeMap::new(),
        };
        Self([(root.id.clone(), root)].into())
    }

    /// All resources, by their ids.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Resource)> {
        self.0.iter()
    }

    /// The resource with this id.
    ///
    /// # Errors
    /// If it does not exist.
    pub fn get(&self, id: &str) -> Result<&Resource, ControlError> {
        self.0.get(id).ok_or_else(|| ControlError::not_found("Resource"))
    }

    /// The resource with this id.
    ///
    /// # Errors
    /// If it does not exist.
    pub fn get_mut(&mut self, id: &str) -> Result<&mut Resource, ControlError> {
        self.0.get_mut(id).ok_or_else(|| ControlError::not_found("Resource"))
    }

    /// Adds a resource under another.
    ///
    /// # Errors
    /// If the parent does not exist, or has a child with this path part.
    pub fn add(&mut self, parent: &str, part: &str) -> Result<&Resource, ControlError> {
        let id = random_alphanumeric(6);
        let resource = Resource {
            id: id.clone(),
            parent_id: Some(parent.into()),
            path_part: Some(part.into()),
            path: self.child_path(&id, parent, part)?,
            resource_methods: BTreeMap::new(),
        };
        Ok(self.0.entry(id).or_insert(resource))
    }

    /// The path of the resource `id` with this part under `parent`.
    fn child_path(&self, id: &str, parent: &str, part: &str) -> Result<String, ControlError> {
        let above = self.get(parent)?.path.trim_end_matches('/');
        let part = checked_path_part(part).map_err(ControlError::BadRequest)?;
        let others = self.0.values().filter(|it| it.parent_id.as_deref() == Some(parent));
        let siblings = others.filter(|it| it.id != id).filter_map(|it| it.path_part.as_deref());
        check_place(above, part, siblings).map_err(ControlError::BadRequest)?;
        let has_children = self.0.values().any(|it| it.parent_id.as_deref() == Some(id));
        if has_children && part.ends_with(GREEDY) {
            return Err(ControlError::BadRequest(NO_CHILDREN.into()));
        }
        let path = format!("{above}/{part}");
        if self.0.values().any(|resource| resource.path == path && resource.id != id) {
            let why =
                format!("Another resource with the same parent already has this name: {part}");
            return Err(ControlError::Conflict(why));
        }
        Ok(path)
    }

    /// Adds the methods of each path, with the resources that are missing. A method replaces the
    /// one with its name.
    ///
    /// # Errors
    /// If a path is invalid, or there would be more than 10,000 resources. Some may then be added.
    pub(super) fn put_methods(&mut self, paths: &PathMethods) -> Result<(), ControlError> {
        let by_path = self.0.values().map(|resource| (resource.path.clone(), resource.id.clone()));
        let mut ids: BTreeMap<String, String> = by_path.collect();
        for (path, methods) in paths {
            let resource = self.get_or_add(path, &mut ids)?;
            resource.resource_methods.extend(methods.clone());
        }
        Ok(())
    }

    /// The resource of a path, which is added with those above it if it is missing; `ids` are
    /// those of all paths.
    fn get_or_add(
        &mut self,
        path: &str,
        ids: &mut BTreeMap<String, String>,
    ) -> Result<&mut Resource, ControlError> {
        let invalid = |why: String| ControlError::BadRequest(format!("paths.{path}: {why}"));
        if path.len() > MAX_PATH_BYTES {
            return Err(ControlError::BadRequest(format!(
                "a path has more than {MAX_PATH_BYTES} bytes"
            )));
        }
        let missing_root = || invalid("a path begins with a slash".into());
        let mut above =
            ids.get("/").filter(|_| path.starts_with('/')).ok_or_else(missing_root)?.clone();
        let ends = path.match_indices('/').map(|(at, _)| at).skip(1).chain([path.len()]);
        for end in ends.filter(|_| path != "/") {
            let own = &path[..end];
            above = match ids.get(own) {
                Some(id) => id.clone(),
                None if self.0.len() >= MAX_DEFINED_RESOURCES => {
                    let why =
                        format!("the API would have more than {MAX_DEFINED_RESOURCES} resources");
                    return Err(invalid(why));
                }
                None => {
                    let part = own.rsplit('/').next().unwrap_or_default();
                    let part = checked_path_part(part).map_err(invalid)?;
                    let (parent, _) = own.split_at(own.len() - part.len());
                    // Paths with a variable here stand together, so the first one is enough.
                    let variable = ids.range(format!("{parent}{{")..).next();
                    let variable = variable.and_then(|(path, _)| path.strip_prefix(parent));
                    let sibling = variable.and_then(|path| path.split('/').next());
                    let parent = parent.trim_end_matches('/');
                    check_place(parent, part, sibling.into_iter()).map_err(invalid)?;
                    let id = random_alphanumeric(10);
                    let resource = Resource {
                        id: id.clone(),
                        parent_id: Some(above),
                        path_part: Some(part.into()),
                        path: own.into(),
                        resource_methods: BTreeMap::new(),
                    };
                    self.0.insert(id.clone(), resource);
                    ids.insert(own.into(), id.clone());
                    id
                }
            };
        }
        self.get_mut(&above)
    }

    /// Removes a resource and everything below it.
    ///
    /// # Errors
    /// If it does not exist, or is the root.
    pub fn remove(&mut self, id: &str) -> Result<(), ControlError> {
        let resource = self.get(id)?;
        if resource.parent_id.is_none() {
            return Err(ControlError::BadRequest("The root resource cannot be deleted".into()));
        }
        let path = resource.path.clone();
        self.0.retain(|_, other| !is_at_or_below(&other.path, &path));
        Ok(())
    }

    /// Renames or moves a resource by a patch, with everything below it.
    ///
    /// # Errors
    /// If an operation is invalid, the resource is the root, or its new path is another's.
    pub fn patch(&mut self, id: &str, patch: &Patch) -> Result<&Resource, ControlError> {
        for operation in patch.operations()? {
            let (op, segments) = operation.op_and_path()?;
            if op == PatchOp::Remove || operation.is_add() {
                return Err(operation.unknown_path());
            }
            if !matches!(&segments[..], [member] if member == "pathPart" || member == "parentId") {
                return Err(operation.none_of_paths("/parentId, /pathPart"));
            }
            let value = operation.value()?;
            let resource = self.get(id)?;
            let (Some(parent), Some(part)) = (&resource.parent_id, &resource.path_part) else {
                let why = format!("Root resource cannot update its {}.", segments[0]);
                return Err(ControlError::BadRequest(why));
            };
            let (parent, part) = if segments[0] == "pathPart" {
                (parent.clone(), value.to_owned())
            } else {
                (value.to_owned(), part.clone())
            };
            self.relocate(id, parent, part)?;
        }
        self.get(id)
    }

    fn relocate(&mut self, id: &str, parent: String, part: String) -> Result<(), ControlError> {
        let old = self.get(id)?.path.clone();
        if is_at_or_below(&self.get(&parent)?.path, &old) {
            return Err(ControlError::BadRequest("Resources cannot be cyclical.".into()));
        }
        let new = self.child_path(id, &parent, &part)?;
        for resource in self.0.values_mut().filter(|other| is_at_or_below(&other.path, &old)) {
            resource.path.replace_range(..old.len(), &new);
        }
        let resource = self.get_mut(id)?;
        (resource.parent_id, resource.path_part) = (Some(parent), Some(part));
        Ok(())
    }
}

/// True if a path is `other` or below it; neither is the root.
fn is_at_or_below(path: &str, other: &str) -> bool {
    path.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The end of a variable that takes the rest of a path.
const GREEDY: &str = "+}";
/// The reason in AWS' words why a resource cannot be below another, or above one.
const NO_CHILDREN: &str = "Cannot create a child of a resource with a greedy path variable";

/// Checks as AWS that a path part may be below the path `above`, beside `siblings`: requests
/// would have to be guessed to be for one of two variables.
fn check_place<'s>(
    above: &str,
    part: &str,
    mut siblings: impl Iterator<Item = &'s str>,
) -> Result<(), String> {
    if let Some((_, variable)) = above.rsplit_once('/').filter(|_| above.ends_with(GREEDY)) {
        return Err(format!("{NO_CHILDREN}: {variable}"));
    }
    let is_other_variable = |sibling: &&str| sibling.starts_with('{') && *sibling != part;
    match siblings.find(is_other_variable).filter(|_| part.starts_with('{')) {
        None => Ok(()),
        Some(sibling) => Err(format!(
            "A sibling ({sibling}) of this resource already has a variable path part -- only one is allowed"
        )),
    }
}

/// A path part, or the reason in AWS' words why it is none.
fn checked_path_part(part: &str) -> Result<&str, String> {
    if is_path_part(part) {
        return Ok(part);
    }
    let shown: String = part.chars().take(100).collect();
    Err(format!(
        "Resource's path part only allow a-zA-Z0-9._-: or a valid greedy path variable and curly braces at the beginning and the end: {shown}"
    ))
}

/// True if this is one segment of a path in AWS' syntax: `pets`, `{id}`, or `{proxy+}`.
fn is_path_part(part: &str) -> bool {
    let name = part.strip_prefix('{').and_then(|name| name.strip_suffix('}'));
    let plain = name.map_or(part, |name| name.strip_suffix('+').unwrap_or(name));
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-:".contains(c);
    let is_dots = name.is_none() && matches!(part, "." | "..");
    !plain.is_empty() && part.len() <= 255 && plain.chars().all(is_plain) && !is_dots
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::model::PatchOperation;

    fn patch(path: &str, value: &str) -> Patch {
        Patch { patch_operations: vec![PatchOperation::set(path, &value)] }
    }

    #[test]
    fn a_path_has_one_variable_at_a_place_and_nothing_below_a_greedy_one() {
        let root = random_alphanumeric(10);
        let mut resources = Resources::new(root.clone());
        let mut add = |parent: &str, part: &str| {
            resources.add(parent, part).map(|it| it.id.clone()).map_err(|why| why.to_string())
        };
        let (pets, docs) = (add(&root, "pets").unwrap(), add(&root, "docs").unwrap());
        let id = add(&pets, "{id}").unwrap();
        let rest = add(&docs, "{rest+}").unwrap();
        let two = "A sibling ({id}) of this resource already has a variable path part";
        assert!(add(&pets, "{name}").unwrap_err().contains(two));
        assert!(add(&pets, "{proxy+}").unwrap_err().contains(two));
        assert!(add(&rest, "x").unwrap_err().contains("greedy"));
        let photo = add(&id, "photo").unwrap();
        let other = add(&pets, "other").unwrap();
        for (resource, path, value) in [
            (&other, "/pathPart", "{other}"),
            (&id, "/pathPart", "{id+}"),
            (&photo, "/parentId", &rest),
            (&rest, "/parentId", &pets),
        ] {
            assert!(resources.patch(resource, &patch(path, value)).is_err(), "{path} {value}");
        }
        resources.patch(&id, &patch("/pathPart", "{name}")).unwrap();
        let mut define = |paths: &[&str]| {
            let paths = paths.iter().map(|&path| (path.to_owned(), BTreeMap::new())).collect();
            resources.put_methods(&paths)
        };
        define(&["/pets/{name}/x/{y}", "/pets/{name}/x/y", "/docs", "/{all}/{name}/{z+}"]).unwrap();
        for path in
            ["/pets/{id}", "/pets/{id}/x", "/docs/{rest+}/x", "/{any+}", "/pets/{name}/x/{z+}"]
        {
            assert!(define(&[path]).is_err(), "{path}");
        }
    }

    #[test]
    fn a_resource_that_is_renamed_or_moved_takes_those_below_it_along() {
        let root = random_alphanumeric(10);
        let mut resources = Resources::new(root.clone());
        let mut add = |parent: &str, part: &str| resources.add(parent, part).unwrap().id.clone();
        let pets = add(&root, "pets");
        let (id, petshop) = (add(&pets, "{id}"), add(&root, "petshop"));
        resources.patch(&pets, &patch("/pathPart", "animals")).unwrap();
        let path = |resources: &Resources, id: &str| resources.get(id).unwrap().path.clone();
        assert_eq!(path(&resources, &id), "/animals/{id}");
        assert_eq!(path(&resources, &petshop), "/petshop");
        let moved = resources.patch(&pets, &patch("/parentId", &petshop)).unwrap();
        assert_eq!(moved.path, "/petshop/animals");
        assert_eq!(path(&resources, &id), "/petshop/animals/{id}");
        resources.patch(&pets, &patch("/pathPart", "animals")).unwrap();
        for (resource, path, value) in [
            (&petshop, "/parentId", &*id),
            (&petshop, "/parentId", &petshop),
            (&petshop, "/parentId", "nowhere"),
            (&petshop, "/pathPart", "a/b"),
            (&root, "/pathPart", "a"),
            (&pets, "/path", "a"),
        ] {
            assert!(resources.patch(resource, &patch(path, value)).is_err(), "{path} {value}");
        }
        let other = resources.add(&root, "other").unwrap().id.clone();
        assert!(resources.patch(&other, &patch("/pathPart", "petshop")).is_err());
        resources.remove(&petshop).unwrap();
        assert_eq!(resources.iter().count(), 2);
    }
}
