//! The life of a reservation, from the check that opens it to its end.
//! Needs programs besides Rust, so `make fast` skips it.

use serde_json::json;

use super::{cancel, handle, left, on_both, open, post, remaining, reserve, settle};

#[test]
fn a_settlement_charges_what_the_provider_says_was_used() {
    on_both(|node| {
        let answer = node.check(json!({
            "api_key": "alice-key", "model": "gpt-5",
            "usage": {"input_tokens": 1200, "output_tokens": 4096},
            "reservation": {"id": "req-7f3a", "ttl_ms": 60000},
        }));
        assert_eq!(answer.status, 200, "{answer:?}");
        let body = answer.json();
        let reservation = &body["reservation"];
        assert_eq!(
            (&reservation["ttl_ms"], &reservation["replayed"]),
            (&json!(60000), &json!(false))
        );
        assert_eq!(reservation["reserved"]["requests"], 1);
        assert_eq!(reservation["reserved"]["input_tokens"], 1200);
        assert_eq!(reservation["reserved"]["output_tokens"], 4096);
        assert_eq!(reservation["reserved"]["total_tokens"], 5296);
        assert_eq!(left(&body), [99, 94_704, 94_704]);
        let usage = json!({"prompt_tokens": 1187, "completion_tokens": 431, "prompt_tokens_details": {"cached_tokens": 1024}});
        let settled =
            post(node, "/reservations/settle", json!({"handle": handle(&answer), "usage": usage}));
        assert_eq!(
            (settled.status, settled.header("content-type")),
            (200, Some("application/json"))
        );
        let body = settled.json();
        assert_eq!(body["charged"]["requests"], 1);
        assert_eq!(body["charged"]["input_tokens"], 1187);
        assert_eq!(body["charged"]["output_tokens"], 431);
        assert_eq!(body["charged"]["total_tokens"], 1618);
        assert_eq!(left(&body), [99, 98_382, 98_382]);
        assert_eq!(body["limits"][1]["name"], "pro/tpm");
        assert!(body.get("stop").is_none() && body.get("status").is_none(), "{body}");
        assert_eq!(remaining(node, "alice-key"), [99, 98_382, 98_382]);
    });
}

#[test]
fn money_is_settled_at_the_price_of_each_kind_of_token() {
    on_both(|node| {
        let answer = node.check(json!({
            "api_key": "dora-key", "model": "gpt-5", "usage": {"input_tokens": 1000, "output_tokens": 100},
            "reservation": {},
        }));
        assert_eq!(answer.json()["reservation"]["reserved"]["cost_microusd"], 2250);
        // 600 * 1.25 + 400 * 0.125 + 100 * 10, for the output is that of the estimate.
        let usage = json!({"prompt_tokens": 1000, "prompt_tokens_details": {"cached_tokens": 400}});
        let settled =
            post(node, "/reservations/settle", json!({"handle": handle(&answer), "usage": usage}));
        assert_eq!(settled.json()["charged"]["cost_microusd"], 1800, "{settled:?}");
        assert_eq!(remaining(node, "dora-key"), [998_200]);
    });
}

#[test]
fn an_output_that_the_check_does_not_name_is_the_models_largest() {
    on_both(|node| {
        let answer = node.check(json!({
            "api_key": "alice-key", "model": "gpt-5", "usage": {"input_tokens": 100}, "reservation": {},
        }));
        assert_eq!(answer.json()["reservation"]["reserved"]["total_tokens"], 4196, "{answer:?}");
        let unknown =
            json!({"api_key": "alice-key", "usage": {"input_tokens": 100}, "reservation": {}});
        let refused = node.check(unknown);
        assert_eq!(
            (refused.status, refused.json()["field"].as_str()),
            (400, Some("usage.output_tokens"))
        );
    });
}

#[test]
fn a_cancelled_reservation_gives_everything_back() {
    on_both(|node| {
        let handle = open(node, "bob-key", 400);
        assert_eq!(remaining(node, "bob-key"), [600, 2]);
        let cancelled = cancel(node, &handle);
        assert_eq!(cancelled.status, 200, "{cancelled:?}");
        assert_eq!(cancelled.json()["charged"], json!({"requests": 0, "total_tokens": 0}));
        assert_eq!(left(&cancelled.json()), [1000, 3]);
        assert_eq!(remaining(node, "bob-key"), [1000, 3]);
    });
}

#[test]
fn unknown_usage_gives_nothing_back() {
    on_both(|node| {
        for body in
            [json!({}), json!({"usage": null}), json!({"usage": {}}), json!({"usage": {"cost": 1}})]
        {
            let mut body = body;
            body["handle"] = json!(open(node, "alice-key", 400));
            let before = remaining(node, "alice-key");
            let settled = post(node, "/reservations/settle", body.clone());
            assert_eq!(
                settled.json()["charged"],
                json!({"requests": 1, "total_tokens": 400}),
                "{body}"
            );
            assert_eq!(remaining(node, "alice-key"), before, "{body}");
        }
        let handle = open(node, "bob-key", 400);
        let at_least = |tokens: u64| {
            let actual = json!({"total_tokens": tokens});
            json!({"handle": handle, "actual": actual, "at_least": true})
        };
        let settled = post(node, "/reservations/settle", at_least(100));
        assert_eq!(settled.json()["charged"]["total_tokens"], 400);
        let handle = open(node, "bob-key", 400);
        let more = json!({"handle": handle, "actual": {"total_tokens": 500}, "at_least": true});
        assert_eq!(post(node, "/reservations/settle", more).json()["charged"]["total_tokens"], 500);
        assert_eq!(remaining(node, "bob-key"), [100, 1]);
    });
}

#[test]
fn an_extension_charges_what_was_used_so_far_and_says_when_to_stop() {
    on_both(|node| {
        let handle = open(node, "bob-key", 400);
        let extend = |tokens: u64| {
            let actual = json!({"total_tokens": tokens});
            post(
                node,
                "/reservations/extend",
                json!({"handle": handle, "actual": actual, "ttl_ms": 5000}),
            )
        };
        let fewer = extend(100);
        assert_eq!(fewer.status, 200, "{fewer:?}");
        let body = fewer.json();
        assert_eq!(body["charged"], json!({"requests": 1, "total_tokens": 400}));
        assert_eq!(
            (&body["ttl_ms"], &body["stop"], &body["violated"]),
            (&json!(5000), &json!(false), &json!(null))
        );
        for _ in 0..2 {
            assert_eq!(left(&extend(900).json()), [100, 2], "the usage is cumulative");
        }
        let stopped = extend(1_100).json();
        assert_eq!((&stopped["stop"], &stopped["violated"]), (&json!(true), &json!("small/tpm")));
        assert_eq!(left(&stopped), [-100, 2]);
        let settled = settle(node, &handle, 700);
        assert_eq!(left(&settled.json()), [300, 2], "and the rest goes back");
        assert_eq!(extend(900).status, 404);
        let by_default = open(node, "carol-key", 1);
        let extended = post(node, "/reservations/extend", json!({"handle": by_default}));
        assert_eq!(extended.json()["ttl_ms"], 60_000);
    });
}

#[test]
fn a_refused_check_opens_no_reservation() {
    on_both(|node| {
        open(node, "bob-key", 900);
        let refused = reserve(node, "bob-key", 200, "a");
        assert_eq!((refused.status, refused.json()["violated"].as_str()), (429, Some("small/tpm")));
        assert!(refused.json().get("reservation").is_none());
        assert_eq!(reserve(node, "bob-key", 1_001, "b").status, 422);
        assert_eq!(remaining(node, "bob-key"), [100, 2]);
        assert_eq!(reserve(node, "bob-key", 100, "a").status, 200, "a refusal takes no id");
        let plain = node.check(json!({"api_key": "carol-key", "reservation": null}));
        assert!(plain.json().get("reservation").is_none());
    });
}

#[test]
fn many_reservations_are_opened_and_changed_in_one_request() {
    on_both(|node| {
        let reserved = |tokens: u64| json!({"api_key": "bob-key", "cost": {"total_tokens": tokens}, "reservation": {}});
        let plain = json!({"api_key": "bob-key", "cost": 0});
        let bad = json!({"api_key": "bob-key", "reservation": {"ttl_ms": 1}});
        let checks = json!({"checks": [reserved(300), reserved(800), plain, bad, reserved(200)]});
        let opened = post(node, "/check/batch", checks).json();
        let statuses = |body: &serde_json::Value| -> Vec<u64> {
            let results = body["results"].as_array().unwrap_or_else(|| panic!("{body}"));
            results.iter().map(|result| result["status"].as_u64().unwrap()).collect()
        };
        assert_eq!(statuses(&opened), [200, 429, 200, 400, 200]);
        assert_eq!(left(&opened["results"][2]), [700, 2], "in order");
        assert_eq!(opened["results"][3]["field"], "reservation.ttl_ms");
        let handle = |place: usize| opened["results"][place]["reservation"]["handle"].clone();
        let settle = |place: usize, tokens: u64| json!({"handle": handle(place), "actual": {"total_tokens": tokens}});
        let bodies = json!({"reservations": [settle(0, 100), settle(0, 100), {"handle": "r1.x"}, {"handle": 5}, settle(4, 50)]});
        let changed = post(node, "/reservations/settle", bodies);
        assert_eq!(changed.status, 200, "{changed:?}");
        let body = changed.json();
        assert_eq!(statuses(&body), [200, 404, 400, 400, 200]);
        assert_eq!(body["results"][0]["charged"]["total_tokens"], 100);
        assert_eq!(body["results"][2]["field"], "handle");
        assert_eq!(remaining(node, "bob-key"), [850, 1]);
        let many = json!({"reservations": vec![json!({"handle": "r1.x"}); 1_001]});
        let refused = post(node, "/reservations/cancel", many);
        assert_eq!((refused.status, refused.json()["field"].as_str()), (400, Some("reservations")));
    });
}
