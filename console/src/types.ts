// The resources of the admin API, as far as the console reads them.

export interface List<T> {
  item: T[];
  position?: string;
}

export interface ApiKey {
  id: string;
  name?: string;
  description?: string;
  customerId?: string;
  enabled: boolean;
  createdDate: number;
  lastUpdatedDate: number;
  expiresAt?: string;
  previousValueUntil?: string;
  owner?: "file";
  value?: string;
  overrides?: Record<string, Override>;
  ignoredOverrides?: string[];
  policies?: Record<string, string>;
}

export interface Throttle {
  rateLimit?: number;
  burstLimit?: number;
}

export interface Override {
  throttle?: Throttle;
  quota?: { limit: number };
  limits?: Record<string, unknown>;
}

/** A limit in the catalog's form. */
export interface FurtherLimit {
  name: string;
  unit?: string;
  throttle?: { rate: string; burst?: number };
  quota?: { limit: number; period: string };
  [member: string]: unknown;
}

export interface Plan {
  id: string;
  name: string;
  description?: string;
  apiStages: { apiId: string; stage: string; throttle?: Record<string, Throttle> }[];
  throttle?: Throttle;
  quota?: { limit: number; period: "DAY" | "WEEK" | "MONTH"; timeZone?: string };
  limits?: FurtherLimit[];
  onStoreFailure?: string;
  consistency?: string;
  mode?: string;
  alongside?: boolean;
  servesNoStage?: boolean;
  owner?: "file";
}

export interface Stage {
  stageName: string;
  deploymentId: string;
  throttle?: Throttle;
  limits?: FurtherLimit[];
  consistency?: string;
  methodSettings?: Record<string, { throttlingRateLimit?: number; throttlingBurstLimit?: number }>;
}

export interface RestApi {
  id: string;
  name: string;
  owner?: "file";
}

export interface Policy {
  name: string;
  keyType: "ip" | "text";
  limits: { name: string; unit: string; limit: number; period?: string; shadow?: boolean }[];
}

export interface PolicyLimit {
  name: string;
  unit: string;
  limit: number;
  remaining: number;
  resetMs: number;
  retryAfterMs: number | null;
  shadow: boolean;
}

export interface Counts {
  refused: number;
  used: number;
}

export interface TopRow {
  limit: string;
  unit: string;
  keyId?: string;
  key?: string;
  minute: Counts;
  hour: Counts;
}

export interface DeliveryAttempt {
  /** In seconds since 1970. */
  at: number;
  id: string;
  outcome: "delivered" | "failed" | "given_up";
  attempt: number;
  why?: string;
  data: { key?: string; plan?: string; limit?: string; threshold?: number };
}

export interface NodeReport {
  node: string;
  version: string;
  started: number;
  at: number;
  workers: number;
  checksInFlight: number;
  connections: number;
  catalog: string;
  store: {
    kind: "redis" | "memory";
    openBreakers: number;
    redisMemoryUsed: number;
    memoryRows: number;
    maxMemoryRows: number;
  };
  minute: {
    seconds: number;
    plans: { plan: string | null; outcomes: Record<string, number> }[];
    bounds: number[];
    checkDurations: number[];
    storeDurations: number[];
    storeErrors: number;
  };
  historyEnd: number;
  history: [number, number, number][];
  webhooks: {
    thresholds: number[];
    waiting: number;
    delivered: number;
    failed: number;
    givenUp: number;
    newest: DeliveryAttempt[];
  } | null;
}

export interface AuditEntry {
  id: string;
  at: string;
  who: string;
  method: string;
  path: string;
  requestId: string;
  status: number;
  changed: string[];
}

export interface ExplainedLimit {
  name: string;
  unit: string;
  limit: number;
  used: number;
  cost: number;
  remaining: number;
  fits: boolean;
  retry_after_ms: number | null;
  pattern: string | null;
  source: { file?: string; line?: number | null; resource?: string } | null;
  override: boolean;
  shadow?: boolean;
}

export interface Explanation {
  status: number;
  allowed?: boolean;
  violated?: string | null;
  detail?: string;
  title?: string;
  decided_by?: string;
  limits: ExplainedLimit[];
}
