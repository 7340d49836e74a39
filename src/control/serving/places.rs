//! Places of errors in what the admin API declares, by ids and names.
//!
//! A catalog counts its entries: those of the file first, and then the API's in the order of their
//! ids. A client knows no such number, and another client's plan would change it.

use crate::catalog::CatalogFile;
use crate::catalog::raw::RawCatalog;

/// An error of a catalog that is composed of `file` and `declared`. Its place in `declared` is
/// written with the id of the API or of the plan; an error elsewhere stays as it is.
pub(super) fn name_place(error: &str, file: Option<&CatalogFile>, declared: &RawCatalog) -> String {
    let (apis, plans) = file.map_or((0, 0), |file| (file.api_count(), file.plan_count()));
    let named = || {
        let (list, place, below) = split_place(error)?;
        match list {
            "plans" => {
                let plan = declared.plans.get(place.checked_sub(plans)?)?;
                Some(format!("the usage plan {}: {below}", plan.id))
            }
            "apis" => {
                let api = declared.apis.get(place.checked_sub(apis)?)?;
                let stage = split_place(below).filter(|(list, ..)| *list == "stages");
                let stage =
                    stage.and_then(|(_, place, below)| Some((api.stages.get(place)?, below)));
                Some(match stage {
                    None => format!("the API {}: {below}", api.id),
                    Some((stage, below)) => {
                        format!("the API {}: the stage {}: {below}", api.id, stage.name)
                    }
                })
            }
            _ => None,
        }
    };
    named().unwrap_or_else(|| error.to_owned())
}

/// `plans`, 1 and `quota: why` of `plans[1].quota: why`.
fn split_place(error: &str) -> Option<(&str, usize, &str)> {
    let (list, rest) = error.split_once('[')?;
    let (place, below) = rest.split_once(']')?;
    let below = below.strip_prefix('.').or_else(|| below.strip_prefix(": "))?;
    Some((list, place.parse().ok()?, below))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_in_an_entry_of_the_api_has_its_id_whatever_else_there_is() {
        let file = CatalogFile::parse("version: 1\nplans: [{ id: a }, { id: b }]", "f").unwrap();
        let declared = RawCatalog::from_yaml(
            "version: 1\nplans: [{ id: p }]\napis: [{ id: shop, stages: [{ name: s }, { name: t }] }]",
        );
        let declared = declared.unwrap();
        let named = |error| name_place(error, Some(&file), &declared);
        assert_eq!(named("plans[2].quota.limit: why"), "the usage plan p: quota.limit: why");
        assert_eq!(named("plans[2]: why"), "the usage plan p: why");
        assert_eq!(named("apis[0].id: why"), "the API shop: id: why");
        let stage = named("apis[0].stages[1].methods[GET /a]: why");
        assert_eq!(stage, "the API shop: the stage t: methods[GET /a]: why");
        assert_eq!(named("plans[1].quota: why"), "plans[1].quota: why", "the file's");
        assert_eq!(named("limits: why"), "limits: why");
        assert_eq!(name_place("plans[0]: why", None, &declared), "the usage plan p: why");
    }
}
