//! The export of traces over OTLP, configured by the standard variables `OTEL_*` alone.
//!
//! Encoding and configuration are those of the official crates; requests go by the service's own
//! HTTP client, on the control thread. A collector that is slow or gone fills the tracer's queue,
//! and never delays a check. Protobuf over HTTP is the only protocol.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Request, Response, Uri, header, uri};
use bytes::Bytes;
use opentelemetry::KeyValue;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::EnvResourceDetector;
use opentelemetry_sdk::trace::{Config, SpanData, SpanExporter as _};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::StartError;
use crate::telemetry::{LogThrottle, Metrics, SpanFate, SpanQueue, Tracer};
use crate::tls::ClientTls;
use crate::transport::send_request;

/// The timeout of the export of what is left when the node stops.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);
/// The most bytes of a collector's response.
const MAX_RESPONSE_BYTES: usize = 1 << 20;
/// The samplers that the SDK knows.
const SAMPLERS: [&str; 6] = [
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
];

/// The export of a node's spans; without an endpoint there is none.
pub(super) struct Traces(Option<Running>);

struct Running {
    tracer: Arc<Tracer>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Traces {
    /// Starts to export on the control thread, if an endpoint is configured.
    pub(super) fn start(control: &Handle, metrics: &Arc<Metrics>) -> Result<Self, StartError> {
        let endpoints = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
        let is_off = variable("OTEL_SDK_DISABLED")
            .is_some_and(|it| it.eq_ignore_ascii_case("true"))
            || variable("OTEL_TRACES_EXPORTER").is_some_and(|exporter| exporter == "none");
        if is_off || endpoints.into_iter().find_map(variable).is_none() {
            return Ok(Self(None));
        }
        let mut exporter = build_exporter()?;
        exporter.set_resource(&resource());
        let queue = number("OTEL_BSP_MAX_QUEUE_SIZE", 2_048)?;
        let batch = number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512)?;
        let sampler = Config::default().sampler;
        let (tracer, spans) = Tracer::new(sampler, queue, batch, Arc::clone(metrics));
        let batch = Batches {
            exporter,
            spans,
            delay: Duration::from_millis(number("OTEL_BSP_SCHEDULE_DELAY", 5_000)? as u64),
            metrics: Arc::clone(metrics),
            warning: LogThrottle::default(),
        };
        let (stop, stopped) = oneshot::channel();
        let task = control.spawn(batch.run(stopped));
        Ok(Self(Some(Running { tracer, stop, task })))
    }

    /// The tracer of all workers.
    pub(super) fn tracer(&self) -> Option<Arc<Tracer>> {
        self.0.as_ref().map(|running| Arc::clone(&running.tracer))
    }

    /// Exports what is left, for five seconds at most.
    pub(super) async fn stop(self) {
        let Some(Running { stop, task, .. }) = self.0 else { return };
        let _task_panicked = stop.send(());
        if timeout(FLUSH_TIMEOUT, task).await.is_err() {
            tracing::warn!("the last spans of traces could not be exported in {FLUSH_TIMEOUT:?}");
        }
    }
}

/// The spans that wait, and their exporter.
struct Batches {
    exporter: SpanExporter,
    spans: SpanQueue,
    delay: Duration,
    metrics: Arc<Metrics>,
    warning: LogThrottle,
}

impl Batches {
    /// Exports a batch when it is full, or the delay after its first span, until `stopped`; then
    /// what is left.
    async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        let mut is_stopping = false;
        while !is_stopping {
            tokio::select! {
                () = self.spans.ready(self.delay) => {}
                _ = &mut stopped => is_stopping = true,
            }
            let batch = self.spans.take();
            self.export(batch).await;
        }
        loop {
            let batch = self.spans.take();
            if batch.is_empty() {
                break;
            }
            self.export(batch).await;
        }
    }

    async fn export(&self, batch: Vec<SpanData>) {
        let spans = batch.len() as u64;
        if spans == 0 {
            return;
        }
        match self.exporter.export(batch).await {
            Ok(()) => self.metrics.traces.record(SpanFate::Exported, spans),
            Err(error) => {
                self.metrics.traces.record(SpanFate::Failed, spans);
                if self.warning.is_due() {
                    tracing::warn!(%error, spans, "spans of traces are lost: the collector did not accept them");
                }
            }
        }
    }
}

/// A variable that is not empty.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn number(name: &str, default: usize) -> Result<usize, StartError> {
    let Some(text) = variable(name) else { return Ok(default) };
    text.parse().map_err(|_| StartError::Traces(format!("{name}: `{text}` is no whole number")))
}

fn build_exporter() -> Result<SpanExporter, StartError> {
    for name in ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"] {
        let protocol = variable(name).filter(|protocol| protocol != "http/protobuf");
        if let Some(protocol) = protocol {
            let why = format!("{name}: `{protocol}` is not supported; write http/protobuf");
            return Err(StartError::Traces(why));
        }
    }
    let sampler = variable("OTEL_TRACES_SAMPLER");
    if let Some(sampler) = sampler.filter(|sampler| !SAMPLERS.contains(&&**sampler)) {
        let known = SAMPLERS.join(", ");
        let why = format!("OTEL_TRACES_SAMPLER: `{sampler}` is not one of {known}");
        return Err(StartError::Traces(why));
    }
    let timeouts = ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"];
    let name = timeouts.into_iter().find(|name| variable(name).is_some()).unwrap_or(timeouts[0]);
    let timeout = Duration::from_millis(number(name, 10_000)? as u64);
    let ca = ["OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE"];
    let ca = ca.into_iter().find_map(variable);
    let tls = ClientTls::new(ca.as_ref().map(std::path::Path::new), None)
        .map_err(|error| StartError::Traces(format!("OTEL_EXPORTER_OTLP_CERTIFICATE: {error}")));
    let client = OtlpClient { tls: tls?, timeout };
    let builder = SpanExporter::builder().with_http().with_http_client(client);
    let exporter = builder.with_timeout(timeout).build();
    exporter.map_err(|error| StartError::Traces(error.to_string()))
}

/// The service as traces name it: `tollgate`, unless the variables say otherwise.
fn resource() -> Resource {
    let resource = Resource::builder_empty()
        .with_service_name("tollgate")
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_detector(Box::new(EnvResourceDetector::new()));
    match variable("OTEL_SERVICE_NAME") {
        Some(name) => resource.with_service_name(name).build(),
        None => resource.build(),
    }
}

/// The service's HTTP client, as the exporter uses it.
struct OtlpClient {
    tls: ClientTls,
    timeout: Duration,
}

impl std::fmt::Debug for OtlpClient {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("OtlpClient").finish_non_exhaustive()
    }
}

#[tonic::async_trait]
impl HttpClient for OtlpClient {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (mut head, body) = request.into_parts();
        let uri::Parts { scheme, authority, path_and_query, .. } = head.uri.into_parts();
        let authority = authority.ok_or("the endpoint has no host")?;
        let is_tls = scheme == Some(uri::Scheme::HTTPS);
        let port = authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        head.uri = path_and_query.map_or_else(Uri::default, Into::into);
        head.headers.insert(header::HOST, HeaderValue::from_str(authority.as_str())?);
        let request = Request::from_parts(head, Body::from(body));
        let host = authority.host().trim_matches(['[', ']']);
        let tls = is_tls.then_some((&self.tls, host));
        let exchange = async {
            let (head, body) = send_request((host, port), tls, request).await?;
            Ok::<_, HttpError>(Response::from_parts(head, body.read(MAX_RESPONSE_BYTES).await?))
        };
        timeout(self.timeout, exchange).await?
    }
}
