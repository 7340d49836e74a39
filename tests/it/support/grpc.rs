//! A gRPC client of Envoy's rate limit service.

use std::time::Duration;

use tollgate::grpc::proto::rate_limit_descriptor::Entry;
use tollgate::grpc::proto::{RateLimitDescriptor, RateLimitRequest, RateLimitResponse};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

use super::TEST_TIMEOUT;

/// A client with one connection. Calls block.
pub struct GrpcClient {
    runtime: tokio::runtime::Runtime,
    channel: Channel,
}

impl GrpcClient {
    pub fn connect(address: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        let channel = runtime.block_on(endpoint.connect()).unwrap();
        Self { runtime, channel }
    }

    pub fn ask(&self, request: RateLimitRequest) -> Result<RateLimitResponse, Status> {
        self.send(Request::new(request))
    }

    pub fn send(&self, request: Request<RateLimitRequest>) -> Result<RateLimitResponse, Status> {
        self.call("/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit", request)
    }

    /// The first response of the reflection service's stream.
    pub fn reflect(&self, request: ServerReflectionRequest) -> ServerReflectionResponse {
        let mut grpc = Grpc::new(self.channel.clone());
        self.runtime.block_on(async {
            grpc.ready().await.unwrap();
            let path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
            let asked = Request::new(tonic::codegen::tokio_stream::once(request));
            let codec = ProstCodec::default();
            let answer = grpc.streaming(asked, PathAndQuery::from_static(path), codec).await;
            answer.unwrap().into_inner().message().await.unwrap().unwrap()
        })
    }

    pub fn call<Q: prost::Message + 'static, A: prost::Message + Default + 'static>(
        &self,
        path: &'static str,
        mut request: Request<Q>,
    ) -> Result<A, Status> {
        let mut grpc = Grpc::new(self.channel.clone());
        if request.metadata().get("grpc-timeout").is_none() {
            request.set_timeout(Duration::from_secs(10));
        }
        self.runtime.block_on(async {
            tokio::time::timeout(TEST_TIMEOUT, async {
                grpc.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
                let path = PathAndQuery::from_static(path);
                let answer = grpc.unary(request, path, ProstCodec::<Q, A>::default()).await;
                answer.map(tonic::Response::into_inner)
            })
            .await
            .expect("an answer")
        })
    }
}

/// Makes a descriptor of entries.
pub fn descriptor(entries: &[(&str, &str)]) -> RateLimitDescriptor {
    let entry = |&(key, value): &(&str, &str)| Entry { key: key.into(), value: value.into() };
    RateLimitDescriptor {
        entries: entries.iter().map(entry).collect(),
        ..RateLimitDescriptor::default()
    }
}

/// Makes a request with descriptors.
pub fn request(domain: &str, descriptors: Vec<RateLimitDescriptor>) -> RateLimitRequest {
    RateLimitRequest { domain: domain.into(), descriptors, hits_addend: 0 }
}
