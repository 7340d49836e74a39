//! `tollgate plans`: usage plans of a running service.

use serde_json::{Value, json};

use super::CommandError;
use super::admin::{AdminClient, encode_path_segment};
use super::table::{cell, print_json, print_table};

/// The arguments of `tollgate plans`.
#[derive(Clone, clap::Args)]
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
        /// The plan's id
        id: String,
    },
}

/// Prints plans.
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
        PlansCommand::Show { id } => {
            let plan = admin.get(&format!("/usageplans/{}", encode_path_segment(id))).await?;
            if admin.json { print_json(&plan) } else { show(&[plan]) }
        }
    }
    Ok(true)
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
    match throttle["rateLimit"].as_f64() {
        Some(rate) => format!("{rate}/s, burst {}", cell(&throttle["burstLimit"])),
        None => "-".into(),
    }
}

fn quota(plan: &Value) -> String {
    let quota = &plan["quota"];
    match quota["limit"].as_u64() {
        Some(limit) => {
            let period = quota["period"].as_str().unwrap_or_default().to_lowercase();
            let zone = quota["timeZone"].as_str().map_or(String::new(), |zone| format!(", {zone}"));
            format!("{limit}/{period}{zone}")
        }
        None => "-".into(),
    }
}

fn stages(plan: &Value) -> String {
    let stages = plan["apiStages"].as_array().into_iter().flatten();
    let names = stages.map(|stage| format!("{}/{}", cell(&stage["apiId"]), cell(&stage["stage"])));
    let names = names.collect::<Vec<_>>().join(" ");
    if names.is_empty() { "all".into() } else { names }
}
