//! A Redis Cluster for one test: primaries, replicas and spare servers, on free ports.

use std::collections::BTreeMap;

use redis::Value;

use super::proxy::Proxy;
use super::redis::RedisServer;
use super::{eventually, free_port};

/// The number of hash slots.
pub const SLOTS: u16 = 16_384;
/// The time after which a silent server counts as failed: most of a failover's duration.
const NODE_TIMEOUT_MS: &str = "1500";

/// A running Cluster. The first servers are the primaries, each with a third of the slots. Their
/// replicas follow in the same order, and then spare servers without slots.
pub struct RedisCluster {
    pub servers: Vec<RedisServer>,
    primaries: usize,
}

impl RedisCluster {
    /// Starts three primaries, replicas of the first `replicas` of them, and `spares` servers
    /// without slots.
    pub fn start(replicas: usize, spares: usize) -> Self {
        Self::start_with(replicas, spares, &[])
    }

    pub fn start_with(replicas: usize, spares: usize, arguments: &[&str]) -> Self {
        let primaries = 3;
        let (servers, buses): (Vec<RedisServer>, Vec<String>) =
            (0..primaries + replicas + spares).map(|_| server(arguments)).unzip();
        let cluster = Self { servers, primaries };
        for (number, server) in cluster.servers.iter().enumerate() {
            server.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()]);
            for (other, bus) in cluster.servers[..number].iter().zip(&buses) {
                server.command(&["CLUSTER", "MEET", "127.0.0.1", &other.port().to_string(), bus]);
            }
        }
        let share = usize::from(SLOTS) / primaries + 1;
        for (number, server) in cluster.servers[..primaries].iter().enumerate() {
            let first = (number * share).to_string();
            let last = ((number + 1) * share - 1).min(usize::from(SLOTS) - 1).to_string();
            server.command(&["CLUSTER", "ADDSLOTSRANGE", &first, &last]);
        }
        let count = cluster.servers.len();
        eventually("all servers know each other", || {
            cluster
                .servers
                .iter()
                .all(|server| server.command_text(&["CLUSTER", "NODES"]).lines().count() == count)
        });
        for number in 0..replicas {
            let (primary, replica) =
                (&cluster.servers[number], &cluster.servers[primaries + number]);
            let id = primary.command_text(&["CLUSTER", "MYID"]);
            eventually("the replica follows", || {
                replica.try_command(&["CLUSTER", "REPLICATE", &id]).is_ok()
            });
        }
        cluster.settle();
        cluster
    }

    /// Waits until every server has all slots covered, and replicas are in sync.
    pub fn settle(&self) {
        eventually("the cluster state is ok", || {
            self.servers.iter().all(|server| {
                let info = server.command_text(&["CLUSTER", "INFO"]);
                info.contains("cluster_state:ok") && info.contains("cluster_slots_ok:16384")
            })
        });
        eventually("replicas are in sync", || {
            self.servers[self.primaries..].iter().all(|server| {
                let info = server.command_text(&["INFO", "replication"]);
                info.contains("role:master") || info.contains("master_link_status:up")
            })
        });
    }

    /// Puts a proxy in front of each server, which then announces the proxy's port.
    pub fn behind_proxies(&self) -> Vec<Proxy> {
        let proxies: Vec<Proxy> =
            self.servers.iter().map(|server| Proxy::to(server.port())).collect();
        for (server, proxy) in self.servers.iter().zip(&proxies) {
            let port = proxy.port().to_string();
            server.command(&["CONFIG", "SET", "cluster-announce-port", &port]);
        }
        eventually("all servers announce the proxies", || {
            self.servers.iter().all(|server| {
                let nodes = server.command_text(&["CLUSTER", "NODES"]);
                proxies.iter().all(|proxy| nodes.contains(&format!(":{}@", proxy.port())))
            })
        });
        proxies
    }

    /// A `redis+cluster://` URL with the first two primaries, from which the others are discovered.
    pub fn url(&self) -> String {
        let hosts: Vec<String> =
            self.servers[..2].iter().map(|server| format!("127.0.0.1:{}", server.port())).collect();
        format!("redis+cluster://{}", hosts.join(","))
    }

    /// The index of the primary that had a key's slot at the start.
    pub fn home(&self, key: &str) -> usize {
        usize::from(self.slot(key)) / (usize::from(SLOTS) / self.primaries + 1)
    }

    pub fn slot(&self, key: &str) -> u16 {
        match self.servers[0].command(&["CLUSTER", "KEYSLOT", key]) {
            Value::Int(slot) => u16::try_from(slot).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// The numbers of script calls that the servers have run.
    pub fn script_calls(&self) -> Vec<u64> {
        self.servers.iter().map(RedisServer::script_calls).collect()
    }

    /// Moves a slot with its keys from one server to another, as `redis-cli --cluster reshard`
    /// does.
    pub fn move_slot(&self, slot: u16, from: usize, to: usize) {
        self.begin_moving(slot, from, to);
        while self.move_keys(slot, from, to, 10) {}
        self.end_moving(slot, to);
    }

    pub fn begin_moving(&self, slot: u16, from: usize, to: usize) {
        let (slot, from, to) = (slot.to_string(), &self.servers[from], &self.servers[to]);
        let ids = [from, to].map(|server| server.command_text(&["CLUSTER", "MYID"]));
        to.command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &ids[0]]);
        from.command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &ids[1]]);
    }

    /// Moves up to `count` keys of a slot. Returns true if there were any.
    pub fn move_keys(&self, slot: u16, from: usize, to: usize, count: usize) -> bool {
        let (from, to) = (&self.servers[from], &self.servers[to]);
        let keys =
            from.command(&["CLUSTER", "GETKEYSINSLOT", &slot.to_string(), &count.to_string()]);
        let keys: Vec<String> = redis::from_redis_value(keys).unwrap();
        let port = to.port().to_string();
        let mut migrate = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
        migrate.extend(keys.iter().map(String::as_str));
        if !keys.is_empty() {
            from.command(&migrate);
        }
        !keys.is_empty()
    }

    pub fn end_moving(&self, slot: u16, to: usize) {
        let id = self.servers[to].command_text(&["CLUSTER", "MYID"]);
        // The new primary of the slot first: it must know before clients are redirected to it.
        for server in self.servers[to..=to].iter().chain(&self.servers) {
            server.command(&["CLUSTER", "SETSLOT", &slot.to_string(), "NODE", &id]);
        }
        // The next server that takes over the slot needs a later epoch, or this one keeps the slot.
        let epoch = |server: &RedisServer, of: &str| {
            let info = server.command_text(&["CLUSTER", "INFO"]);
            info.lines().find_map(|line| line.strip_prefix(of)?.parse::<u64>().ok()).unwrap()
        };
        let taken = epoch(&self.servers[to], "cluster_my_epoch:");
        eventually("all servers know the epoch", || {
            self.servers.iter().all(|server| epoch(server, "cluster_current_epoch:") >= taken)
        });
    }

    /// The keys of all primaries, each with the index of its server.
    pub fn keys(&self) -> BTreeMap<String, usize> {
        let mut keys = BTreeMap::new();
        for (number, server) in self.servers.iter().enumerate() {
            if server.command_text(&["INFO", "replication"]).contains("role:master") {
                let names: Vec<String> =
                    redis::from_redis_value(server.command(&["KEYS", "*"])).unwrap();
                for name in names {
                    assert!(keys.insert(name.clone(), number).is_none(), "{name} is there twice");
                }
            }
        }
        keys
    }
}

/// Starts a server in cluster mode; returns it with the port of its bus.
fn server(arguments: &[&str]) -> (RedisServer, String) {
    let bus = free_port().to_string();
    let mut all = vec![
        "--cluster-enabled",
        "yes",
        "--cluster-port",
        &bus,
        "--cluster-node-timeout",
        NODE_TIMEOUT_MS,
    ];
    all.extend(["--cluster-require-full-coverage", "no", "--cluster-replica-validity-factor", "0"]);
    all.extend(["--repl-diskless-sync-delay", "0", "--cluster-allow-replica-migration", "no"]);
    all.extend(arguments);
    let tls = free_port().to_string();
    if arguments.contains(&"--tls-cluster") {
        all.extend(["--tls-port", &tls]);
    }
    (RedisServer::start_with(&all), bus)
}
