//! The settings of `tollgate plans create` and `set`, as a request and as operations of a patch.

use serde_json::{Map, Number, Value, json};

use crate::commands::CommandError;
use crate::control::PatchOperation;

/// The settings of a plan. Those that are absent are the service's defaults, or stay as they are.
#[derive(Clone, clap::Args)]
pub(super) struct PlanSettings {
    /// The rate, as in 10/s, 30/min or 1/h; a number alone is of a second
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    rate: Option<Number>,
    /// The burst, in requests [default: a second's worth of the rate]
    #[arg(long, value_name = "N")]
    burst: Option<u64>,
    /// The quota, as in 1000/day; the period is day, week or month
    #[arg(long, value_name = "N/PERIOD", value_parser = parse_quota)]
    quota: Option<(u64, String)>,
    /// The time zone in which the quota's days begin [default: UTC]
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,
    /// Serves this stage; may be given several times
    #[arg(long = "stage", value_name = "API:STAGE", value_parser = parse_stage)]
    stages: Vec<(String, String)>,
    /// Limits in any unit: a JSON list, with the members of the catalog file
    #[arg(long, value_name = "JSON", value_parser = parse_limits)]
    limits: Option<Value>,
    /// The decision while the store is unreachable: open, local or closed
    #[arg(long, value_name = "POLICY")]
    on_store_failure: Option<String>,
    /// enforce, or shadow to judge and refuse nothing
    #[arg(long, value_name = "MODE")]
    mode: Option<String>,
    /// A description, for people
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
}

/// The changes of a plan.
#[derive(Clone, clap::Args)]
pub(super) struct PlanChanges {
    /// Its name, for people; its id stays
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    settings: PlanSettings,
    /// No longer limits the rate
    #[arg(long, conflicts_with_all = ["rate", "burst"])]
    no_throttle: bool,
    /// No longer has a quota
    #[arg(long, conflicts_with_all = ["quota", "time_zone"])]
    no_quota: bool,
    /// No longer serves this stage; may be given several times
    #[arg(long = "remove-stage", value_name = "API:STAGE", value_parser = parse_stage)]
    removed_stages: Vec<(String, String)>,
}

impl PlanSettings {
    /// The request that creates a plan with this name and id.
    pub(super) fn to_request(&self, name: &str, id: &str) -> Result<Value, CommandError> {
        let mut body = Map::new();
        body.insert("name".into(), name.into());
        body.insert("tags".into(), json!({ "_custom_id_": id }));
        if self.burst.is_some() && self.rate.is_none() {
            let why = "--burst is the capacity of the rate's token bucket: add --rate";
            return Err(CommandError::InvalidOption(why.into()));
        }
        if let Some(rate) = &self.rate {
            let burst = self.burst.map(|burst| ("burstLimit".to_owned(), burst.into()));
            let rate = ("rateLimit".to_owned(), Value::Number(rate.clone()));
            body.insert("throttle".into(), std::iter::once(rate).chain(burst).collect());
        }
        match (&self.quota, &self.time_zone) {
            (Some((limit, period)), zone) => {
                let mut quota = json!({ "limit": limit, "period": period });
                if let Some(zone) = zone {
                    quota["timeZone"] = zone.as_str().into();
                }
                body.insert("quota".into(), quota);
            }
            (None, Some(_)) => {
                let why = "--time-zone is that of the quota's days: add --quota";
                return Err(CommandError::InvalidOption(why.into()));
            }
            (None, None) => {}
        }
        let stages = self.stages.iter().map(|(api, stage)| json!({ "apiId": api, "stage": stage }));
        body.insert("apiStages".into(), stages.collect());
        body.extend(self.limits.clone().map(|limits| ("limits".to_owned(), limits)));
        body.extend(self.texts().map(|(member, text)| (member.to_owned(), text.into())));
        Ok(body.into())
    }

    /// The members that are texts, where they are given.
    fn texts(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let texts = [
            ("onStoreFailure", &self.on_store_failure),
            ("mode", &self.mode),
            ("description", &self.description),
        ];
        texts.into_iter().filter_map(|(member, text)| Some((member, text.as_deref()?)))
    }
}

impl PlanChanges {
    /// The operations that make the changes. Removals come first, so that a stage may be replaced.
    ///
    /// # Errors
    /// If there are none.
    pub(super) fn to_operations(&self) -> Result<Vec<PatchOperation>, CommandError> {
        let settings = &self.settings;
        let mut operations = Vec::new();
        operations.extend(self.no_throttle.then(|| PatchOperation::remove("/throttle")));
        operations.extend(self.no_quota.then(|| PatchOperation::remove("/quota")));
        let stage = |(api, stage): &(String, String)| format!("{api}:{stage}");
        let removed = self.removed_stages.iter().map(stage);
        operations.extend(removed.map(|name| PatchOperation::remove_value("/apiStages", name)));
        operations.extend(self.name.iter().map(|name| PatchOperation::set("/name", name)));
        let rate = settings.rate.clone().map(Value::Number);
        operations.extend(rate.map(|rate| PatchOperation::set("/throttle/rateLimit", &rate)));
        operations.extend(
            settings.burst.map(|burst| PatchOperation::set("/throttle/burstLimit", &burst)),
        );
        if let Some((limit, period)) = &settings.quota {
            operations.push(PatchOperation::set("/quota/limit", limit));
            operations.push(PatchOperation::set("/quota/period", period));
        }
        let zone = settings.time_zone.iter();
        operations.extend(zone.map(|zone| PatchOperation::set("/quota/timeZone", zone)));
        let stages = settings.stages.iter().map(stage);
        operations.extend(stages.map(|name| PatchOperation::set("/apiStages", &name)));
        let limits = settings.limits.iter();
        operations.extend(limits.map(|limits| PatchOperation::set("/limits", limits)));
        let texts = settings.texts();
        operations.extend(texts.map(|(name, text)| PatchOperation::set(format!("/{name}"), &text)));
        if operations.is_empty() {
            let why = "nothing to change; `tollgate plans set --help` lists the settings";
            return Err(CommandError::InvalidOption(why.into()));
        }
        Ok(operations)
    }
}

/// Reads a rate of requests, as in `10`, `10/s`, `30/min` or `1/h`, as a number per second.
pub(in crate::commands) fn parse_rate(text: &str) -> Result<Number, String> {
    let why = "write an amount and s, min, h or d, as in 10/s or 30/min";
    let (amount, unit) = text.split_once('/').unwrap_or((text, "s"));
    let secs = match unit {
        "s" => return amount.parse().map_err(|_| why.into()),
        "min" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        _ => return Err(why.into()),
    };
    let amount: f64 = amount.parse().map_err(|_| why)?;
    // The service takes nine digits behind the point.
    Number::from_f64((amount / secs * 1e9).round() / 1e9).ok_or_else(|| why.into())
}

/// Reads a quota, as in `1000/day`, with the period in AWS' spelling.
fn parse_quota(text: &str) -> Result<(u64, String), String> {
    let why = "write a number and day, week or month, as in 1000/day";
    let (limit, period) = text.split_once('/').ok_or(why)?;
    let is_period = ["day", "week", "month"].contains(&period);
    let limit = limit.parse().ok().filter(|_| is_period).ok_or(why)?;
    Ok((limit, period.to_uppercase()))
}

fn parse_stage(text: &str) -> Result<(String, String), String> {
    let why = "write the API's id and the stage, as in inference:prod";
    let (api, stage) = text.split_once(':').ok_or(why)?;
    Ok((api.into(), stage.into()))
}

fn parse_limits(text: &str) -> Result<Value, String> {
    let why = r#"write a JSON list, as in [{"name":"tpm","unit":"total_tokens","throttle":{"rate":"6000/min"}}]"#;
    let limits: Value = serde_json::from_str(text).map_err(|error| format!("{why}: {error}"))?;
    if limits.is_array() { Ok(limits) } else { Err(why.into()) }
}
