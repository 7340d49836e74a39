//! `/account`: the account of all APIs.

use axum::body::Bytes;

use super::auth::RequestEditor;
use super::payload::{AdminResult, ok_response, parse_body};

pub(super) async fn get(RequestEditor(editor): RequestEditor) -> AdminResult {
    Ok(ok_response(&editor.apis().document().await?.account.to_aws_json()))
}

pub(super) async fn patch(RequestEditor(editor): RequestEditor, body: Bytes) -> AdminResult {
    let patch = parse_body(&body)?;
    let apis = editor.apis();
    let edit = apis.edit_account(|account| {
        account.patch(&patch)?;
        Ok(account.to_aws_json())
    });
    Ok(ok_response(&edit.await?))
}
