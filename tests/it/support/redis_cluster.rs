//! A Redis Cluster of a test's own: primaries with a replica each, on free ports.

use std::collections::BTreeMap;

use redis::Value;

use super::redis::RedisServer;
use super::{eventually, free_port};

/// How many slots there are.
pub const SLOTS: u16 = 16_384;
/// How long a server is silent until the others take it for lost; of a failover's time the most.
const NODE_TIMEOUT_MS: &str = "1500";

/// A running Cluster. The first servers are the primaries, each with a third of the slots; behind
/// them are their replicas in the same order, and spares that hold nothing.
pub struct RedisCluster {
    pub servers: Vec<RedisServer>,
    primaries: usize,
}

impl RedisCluster {
    /// Three primaries, `replicas` of whom have a replica each, and as many servers more that hold
    /// nothing as `spares` says.
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
        eventually("all know all", || {
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

    /// Waits until every server sees every slot served, and replicas are in step.
    pub fn settle(&self) {
        eventually("the cluster is well", || {
            self.servers.iter().all(|server| {
                let info = server.command_text(&["CLUSTER", "INFO"]);
                info.contains("cluster_state:ok") && info.contains("cluster_slots_ok:16384")
            })
        });
        eventually("replicas are in step", || {
            self.servers[self.primaries..].iter().all(|server| {
                let info = server.command_text(&["INFO", "replication"]);
                info.contains("role:master") || info.contains("master_link_status:up")
            })
        });
    }

    /// `redis+cluster://` with the first two primaries: they know the others.
    pub fn url(&self) -> String {
        let hosts: Vec<String> =
            self.servers[..2].iter().map(|server| format!("127.0.0.1:{}", server.port())).collect();
        format!("redis+cluster://{}", hosts.join(","))
    }

    /// Which of the first primaries had a key's slot in the beginning.
    pub fn home(&self, key: &str) -> usize {
        usize::from(self.slot(key)) / (usize::from(SLOTS) / self.primaries + 1)
    }

    pub fn slot(&self, key: &str) -> u16 {
        match self.servers[0].command(&["CLUSTER", "KEYSLOT", key]) {
            Value::Int(slot) => u16::try_from(slot).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// How many script calls all servers have run, by server.
    pub fn script_calls(&self) -> Vec<u64> {
        self.servers.iter().map(RedisServer::script_calls).collect()
    }

    /// Moves a slot with its keys from one server to another, as `redis-cli --cluster reshard` does.
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

    /// Moves some of a slot's keys; whether there were any.
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
        // The new holder first: it is to know before anybody is sent there.
        for server in self.servers[to..=to].iter().chain(&self.servers) {
            server.command(&["CLUSTER", "SETSLOT", &slot.to_string(), "NODE", &id]);
        }
        // Whoever takes the slot over next must have a later epoch, or it loses the keys to this one.
        let epoch = |server: &RedisServer, of: &str| {
            let info = server.command_text(&["CLUSTER", "INFO"]);
            info.lines().find_map(|line| line.strip_prefix(of)?.parse::<u64>().ok()).unwrap()
        };
        let taken = epoch(&self.servers[to], "cluster_my_epoch:");
        eventually("all know the epoch", || {
            self.servers.iter().all(|server| epoch(server, "cluster_current_epoch:") >= taken)
        });
    }

    /// All keys of all servers that now hold slots, by name.
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

/// A server and the port of its bus.
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
