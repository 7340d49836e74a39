//! `tollgate plans`: usage plans of a running service.

mod edit;

use axum::http::Method;
use serde_json::{Value, json};

use super::CommandError;
use super::admin::{AdminClient, encode_path_segment};
use super::names::{find_plan, resource_id};
use super::table::{cell, print_json, print_table};
use crate::control::{Patch, UsagePlan, id_from_name};
pub(super) use edit::parse_rate;
use edit::{PlanChanges, PlanSettings};

/// The arguments of `tollgate plans`.
#[derive(Clone, clap::Args)]
#[command(after_help = "\
Examples:
  tollgate plans create Basic --rate 10 --burst 20 --quota 1000/day
  tollgate plans set basic --quota 5000/day --stage inference:prod
  tollgate plans delete basic

A PLAN is an id, or a name that no other plan has.")]
pub struct PlansArgs {
    #[command(flatten)]
    admin: AdminClient,
    #[command(subcommand)]
    command: PlansCommand,
}

#[derive(Clone, clap::Subcommand)]
enum PlansCommand {
    /// Lists the plans of the admin API and of the service's own catalog file
    List,
    /// Shows one plan
    Show {
        /// The plan
        #[arg(value_name = "PLAN")]
        plan: String,
    },
    /// Creates a plan. Its id, as in metrics and headers, is made from its name
    #[command(after_help = "\
Examples:
  tollgate plans create Basic --rate 10 --burst 20 --quota 1000/day       its id is `basic`
  tollgate plans create 'Team Gold' --stage inference:prod --rate 100     its id is `team-gold`
  tollgate plans create tokens --limits '[{\"name\":\"tpd\",\"unit\":\"total_tokens\",\"quota\":{\"limit\":500000,\"period\":\"day\"}}]'

Without --stage it serves all stages.")]
    Create {
        /// Its name, for people
        #[arg(value_name = "NAME")]
        name: String,
        /// Its id, 1 to 64 of A-Z a-z 0-9 . _ - [default: made from the name]
        #[arg(long, value_name = "ID")]
        id: Option<String>,
        #[command(flatten)]
        settings: Box<PlanSettings>,
    },
    /// Changes a plan; every node uses it within a second, and counters are kept
    #[command(after_help = "\
Examples:
  tollgate plans set basic --rate 20 --burst 40
  tollgate plans set basic --no-quota --remove-stage inference:prod

Settings that are not named stay as they are.")]
    Set {
        /// The plan
        #[arg(value_name = "PLAN")]
        plan: String,
        #[command(flatten)]
        changes: Box<PlanChanges>,
    },
    /// Deletes a plan; its keys are then on no plan, or on their others
    Delete {
        /// The plan
        #[arg(value_name = "PLAN")]
        plan: String,
        /// Deletes it also while it serves stages
        #[arg(long)]
        force: bool,
    },
}

/// Runs the command, and prints the plans as they are then.
///
/// # Errors
/// If the service is unreachable or refuses a request.
pub async fn run(args: &PlansArgs) -> Result<bool, CommandError> {
    let admin = &args.admin;
    match &args.command {
        PlansCommand::List => {
            let plans = admin.list_all("/usageplans").await?;
            if admin.json { print_json(&plans.into()) } else { show(&plans) }
        }
        PlansCommand::Show { plan } => print_plan(admin, find_plan(admin, plan).await?),
        PlansCommand::Create { name, id, settings } => {
            let id = id.clone().or_else(|| id_from_name(name)).ok_or_else(|| {
                let why = format!("no id can be made from the name `{name}`; give one with --id");
                CommandError::InvalidOption(why)
            })?;
            let body = settings.to_request(name, &id)?;
            print_plan(admin, admin.call(Method::POST, "/usageplans", Some(body)).await?);
        }
        PlansCommand::Set { plan, changes } => {
            let path = plan_path(&find_plan(admin, plan).await?);
            let body = json!(Patch { patch_operations: changes.to_operations()? });
            print_plan(admin, admin.call(Method::PATCH, &path, Some(body)).await?);
        }
        PlansCommand::Delete { plan, force } => {
            delete(admin, find_plan(admin, plan).await?, *force).await?;
        }
    }
    Ok(true)
}

fn plan_path(plan: &Value) -> String {
    format!("/usageplans/{}", encode_path_segment(&resource_id(plan)))
}

/// Deletes a plan. One that serves stages is deleted only by force: its clients are refused then.
async fn delete(admin: &AdminClient, plan: Value, force: bool) -> Result<(), CommandError> {
    let (path, served) = (plan_path(&plan), stages(&plan));
    let owned: UsagePlan = match serde_json::from_value(plan) {
        Ok(plan) => plan,
        // The file's plan has members of its own: the service says that it is the file's.
        Err(_) => return admin.call(Method::DELETE, &path, None).await.map(drop),
    };
    let patch_operations = owned.operations_without_stages();
    if !patch_operations.is_empty() {
        if !force {
            let id = &owned.id;
            return Err(CommandError::InvalidOption(format!(
                "the plan {id} serves {served}, and clients of its keys would be refused there; --force deletes it nevertheless"
            )));
        }
        admin.call(Method::PATCH, &path, Some(json!(Patch { patch_operations }))).await?;
    }
    admin.call(Method::DELETE, &path, None).await.map(drop)
}

fn print_plan(admin: &AdminClient, plan: Value) {
    if admin.json { print_json(&plan) } else { show(&[plan]) }
}

fn show(plans: &[Value]) {
    let row = |plan: &Value| {
        let [id, name] = ["id", "name"].map(|member| cell(&plan[member]));
        let more = plan["limits"].as_array().map_or(0, Vec::len);
        let owner = cell(&plan["owner"]);
        [id, name, throttle(plan), quota(plan), cell(&json!(more)), stages(plan), owner]
    };
    print_table(
        ["ID", "NAME", "THROTTLE", "QUOTA", "MORE", "STAGES", "OWNER"],
        plans.iter().map(row),
    );
}

fn throttle(plan: &Value) -> String {
    let throttle = &plan["throttle"];
    let Some(rate) = throttle["rateLimit"].as_f64() else { return "-".into() };
    let burst = throttle["burstLimit"].as_u64().map(|burst| format!(", burst {burst}"));
    rate_text(rate) + &burst.unwrap_or_default()
}

/// A number of requests per second, in the unit of time in which a slow rate is a whole number.
fn rate_text(rate: f64) -> String {
    let units = [(60.0, "min"), (3_600.0, "h"), (86_400.0, "d")];
    let in_unit = |(secs, unit): (f64, &str)| {
        let (amount, whole) = (rate * secs, (rate * secs).round());
        // A rate has nine digits behind the point.
        let is_whole = whole >= 1.0 && (amount - whole).abs() < 1e-9 * secs;
        is_whole.then(|| format!("{whole}/{unit}"))
    };
    let slow = units.into_iter().filter(|_| rate < 1.0).find_map(in_unit);
    slow.unwrap_or_else(|| format!("{rate}/s"))
}

fn quota(plan: &Value) -> String {
    quota_text(&plan["quota"], &Value::Null).unwrap_or_else(|| "-".into())
}

/// The text of a quota, such as `1000/day, Europe/Berlin`, with a key's own limit if it has one;
/// `None` without a quota.
pub(super) fn quota_text(quota: &Value, own_limit: &Value) -> Option<String> {
    let limit = own_limit.as_u64().or_else(|| quota["limit"].as_u64())?;
    let period = quota["period"].as_str().unwrap_or_default().to_lowercase();
    let zone = quota["timeZone"].as_str().or_else(|| quota["time_zone"].as_str());
    let zone = zone.map_or(String::new(), |zone| format!(", {zone}"));
    Some(format!("{limit}/{period}{zone}"))
}

fn stages(plan: &Value) -> String {
    let stages = plan["apiStages"].as_array().into_iter().flatten();
    let names = stages.map(|stage| format!("{}/{}", cell(&stage["apiId"]), cell(&stage["stage"])));
    let names = names.collect::<Vec<_>>().join(" ");
    if names.is_empty() { "all".into() } else { names }
}
