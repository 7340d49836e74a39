//! The property that a document of a definition defines the same API, in both dialects and in YAML;
//! and the faults of documents, with their places.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

use super::{Dialect, Extensions, definition_from_document, document_from_definition};
use crate::control::model::{ApiDefinition, Integration, Method, ResponseOwner, StatusResponse};
use crate::syntax;

fn members(value: &Value) -> Map<String, Value> {
    let members = value.as_object().cloned().unwrap();
    members.into_iter().filter(|(_, value)| !value.is_null()).collect()
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{1,12}",
        select(vec!["on", "1.0", "null", "a: b", "- x", "é\n", "#"]).prop_map(str::to_owned)
    ]
}

fn integration() -> impl Strategy<Value = Integration> {
    let kind = select(vec!["HTTP", "AWS", "MOCK", "HTTP_PROXY", "AWS_PROXY"]);
    let behavior = option::of(select(vec!["WHEN_NO_MATCH", "NEVER"]));
    let responses = btree_map(select(vec!["200", "400", "500"]), option::of(text()), 0..2);
    (kind, text(), behavior, option::of(50..300_000_u32), responses).prop_map(
        |(kind, uri, behavior, timeout, responses)| {
            let uri = if kind.starts_with("AWS") { format!("arn:aws:apigateway:us-east-1:lambda:path/{uri}") } else { format!("https://{uri}") };
            let mut integration = Integration::new(members(&json!({
                "type": kind, "httpMethod": "POST", "uri": uri, "passthroughBehavior": behavior, "timeoutInMillis": timeout,
                "requestTemplates": { "application/json": "{}" }, "contentHandling": "CONVERT_TO_TEXT",
            })))
            .unwrap();
            // One response has no pattern, and no two have the same.
            for (place, (code, template)) in responses.into_iter().enumerate() {
                let pattern = (place > 0).then(|| format!("pattern {code}"));
                let members = members(&json!({
                    "selectionPattern": pattern,
                    "responseTemplates": template.map(|it| json!({ "application/json": it })),
                }));
                let response = StatusResponse::new(ResponseOwner::Integration, code, members);
                integration.responses.insert(code.into(), response.unwrap());
            }
            integration
        },
    )
}

fn method(name: &'static str) -> impl Strategy<Value = Method> {
    let places = vec!["path.id", "header.X-Model", "querystring.page"];
    let parameters = btree_map(select(places), any::<bool>(), 0..3);
    let codes = btree_map(select(vec!["200", "404"]), any::<bool>(), 0..3);
    let authorization = select(vec!["NONE", "AWS_IAM"]);
    let model = option::of(select(vec!["Empty", "Pet"]));
    (
        any::<bool>(),
        authorization,
        option::of(text()),
        parameters,
        codes,
        model,
        option::of(integration()),
    )
        .prop_map(move |(key, authorization, id, parameters, codes, model, integration)| {
            let parameter = |(name, required)| (format!("method.request.{name}"), required);
            let parameters: BTreeMap<String, bool> =
                parameters.into_iter().map(parameter).collect();
            let parameters = (!parameters.is_empty()).then_some(parameters);
            let models = model.map(|model| json!({ "application/json": model }));
            let mut method = Method::new(
                name,
                members(&json!({
                    "apiKeyRequired": key, "authorizationType": authorization, "operationName": id,
                    "requestParameters": parameters, "requestModels": models,
                })),
            )
            .unwrap();
            for (code, header) in codes {
                let header = header.then(|| json!({ "method.response.header.X-Cost": false }));
                let members =
                    members(&json!({ "responseParameters": header, "responseModels": models }));
                let response = StatusResponse::new(ResponseOwner::Method, code, members).unwrap();
                method.responses_mut(ResponseOwner::Method).unwrap().insert(code.into(), response);
            }
            method.integration = integration;
            method
        })
}

fn methods() -> impl Strategy<Value = BTreeMap<String, Method>> {
    vec(
        select(vec!["GET", "POST", "ANY", "OPTIONS"]).prop_flat_map(|it| (Just(it), method(it))),
        0..3,
    )
    .prop_map(|all| all.into_iter().map(|(name, method)| (name.into(), method)).collect())
}

prop_compose! {
    fn definition()(
        name in text(), version in text(), description in option::of(text()),
        source in option::of(select(vec!["HEADER", "AUTHORIZER"])), size in option::of(0..10_000_u32),
        disabled in any::<bool>(), policy in option::of(text()),
        paths in btree_map(select(vec!["/", "/pets", "/pets/{id}", "/{proxy+}"]).prop_map(str::to_owned), methods(), 0..4),
    ) -> ApiDefinition {
        let members = members(&json!({
            "version": version, "description": description, "apiKeySource": source, "minimumCompressionSize": size,
            "disableExecuteApiEndpoint": disabled, "policy": policy.map(|it| json!({ "Statement": [it] }).to_string()),
        }));
        ApiDefinition { name, members, paths }
    }
}

fn shown(definition: &ApiDefinition) -> Value {
    json!([definition.name, definition.members, definition.paths])
}

proptest! {
    #[test]
    fn a_document_of_an_api_defines_the_same_api(
        definition in definition(), dialect in select(vec![Dialect::Swagger, Dialect::OpenApi]),
    ) {
        let all = Extensions { integrations: true, api: true };
        let document = document_from_definition(&definition, dialect, all, "prod");
        let yaml = serde_saphyr::to_string(&document).unwrap();
        for document in [&document, &syntax::from_request_yaml(&yaml).unwrap()] {
            let (read, warnings) = definition_from_document(document).unwrap();
            prop_assert_eq!(shown(&read), shown(&definition));
            prop_assert_eq!(warnings, Vec::<String>::new());
        }
    }
}

/// A document with one path, of which a member at a JSON pointer is another value.
fn with(pointer: &str, value: Value) -> Value {
    let mut document = json!({
        "openapi": "3.0.1", "info": { "title": "models", "version": "1" },
        "paths": { "/chat": { "post": {
            "security": [{ "key": [] }], "parameters": [{ "name": "page", "in": "query" }],
            "responses": { "200": {} },
            "x-amazon-apigateway-integration": { "type": "mock", "responses": { "default": { "statusCode": 200 } } },
        } } },
        "components": { "securitySchemes": { "key": { "type": "apiKey", "name": "X-API-Key", "in": "header" } } },
    });
    let (above, name) = pointer.rsplit_once('/').unwrap();
    let above = document.pointer_mut(above).unwrap();
    above.as_object_mut().unwrap().insert(name.replace("~1", "/"), value);
    document
}

#[test]
#[rustfmt::skip]
fn a_fault_of_a_document_is_told_with_its_place() {
    let post = "/paths/~1chat/post";
    for (pointer, value, expected) in [
        ("/openapi".into(), json!("3.1.0"),                  "openapi: only 3.0 is served"),
        ("/swagger".into(), json!("2.0"),                    "openapi: a document has either"),
        ("/info".into(), json!({}),                          "info.title: it is missing"),
        ("/info".into(), json!([]),                          "info: expected an object"),
        ("/paths".into(), json!(null),                       "paths: it is missing"),
        ("/paths/chat".into(), json!({}),                    "paths.chat: a path begins with a slash"),
        ("/paths/~1chat~1".into(), json!({}),                "paths./chat/: the path is there twice"),
        ("/paths/~1chat/fetch".into(), json!({}),            "paths./chat.fetch: it is no HTTP method"),
        ("/paths/~1chat/get".into(), json!(null),            "paths./chat.get: expected an object"),
        ("/paths/~1chat/$ref".into(), json!("#/x"),          "paths./chat: $ref: write"),
        (format!("{post}/security"), json!([{ "other": [] }]), "paths./chat.post.security[0]: there is no security scheme other"),
        (format!("{post}/security"), json!({}),              "paths./chat.post.security: expected a list"),
        (format!("{post}/parameters"), json!([{ "in": "query" }]), "parameters[0]: name: it is missing"),
        (format!("{post}/parameters"), json!([{ "name": "a", "in": "body?" }]), "parameters[0]: in: expected one of"),
        (format!("{post}/parameters"), json!([{ "$ref": "#/nowhere" }]), "parameters[0]: $ref: it leads to nothing"),
        (format!("{post}/parameters"), json!([{ "$ref": "#/paths/~1chat/post/parameters/0" }]), "$ref: it leads to too many"),
        (format!("{post}/responses/20"), json!({}),          "paths./chat.post.responses.20: 1 validation error"),
        (format!("{post}/x-amazon-apigateway-integration"), json!({ "type": "lambda" }), "putIntegrationInput.type' failed to satisfy"),
        (format!("{post}/x-amazon-apigateway-integration"), json!({ "type": "mock", "colour": 1 }), "colour: not known here"),
        (format!("{post}/x-amazon-apigateway-integration/responses/4.."), json!({}), "responses.4..: statusCode: it is missing"),
        (format!("{post}/x-amazon-apigateway-integration/responses/4.."), json!({ "statusCode": "200" }), "another response has its statusCode"),
        ("/components/securitySchemes/pool".into(), json!({ "type": "apiKey", "x-amazon-apigateway-authtype": "cognito_user_pools" }), "components.securitySchemes.pool: Tollgate does not serve authorizers"),
    ] {
        let why = definition_from_document(&with(&pointer, value)).unwrap_err().to_string();
        assert!(why.starts_with("Invalid OpenAPI document: ") && why.contains(expected), "{pointer}: {why}");
    }
    for document in [json!([]), json!("text"), json!(null)] {
        assert!(definition_from_document(&document).is_err());
    }
}

#[test]
fn what_is_left_out_of_an_import_is_a_warning_with_its_place() {
    let post = "/paths/~1chat/post";
    let cases = [
        ("/x-amazon-apigateway-gateway-responses".to_owned(), json!({})),
        ("/components/securitySchemes/oauth".into(), json!({ "type": "oauth2" })),
        ("/paths/~1chat/trace".into(), json!({})),
        (format!("{post}/responses/default"), json!({})),
        (format!("{post}/parameters"), json!([{ "name": "a", "in": "cookie" }])),
        (format!("{post}/x-amazon-apigateway-request-validator"), json!("all")),
    ];
    for (pointer, value) in cases {
        let (_, warnings) = definition_from_document(&with(&pointer, value)).unwrap();
        assert_eq!(warnings.len(), 1, "{pointer}: {warnings:?}");
    }
    let (definition, warnings) = definition_from_document(&with("/tags", json!([]))).unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    let method = json!(definition.paths["/chat"]["POST"]);
    assert_eq!(method["apiKeyRequired"], true);
}
