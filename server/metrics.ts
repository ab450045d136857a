/**
 * What the server counts, for `_prometheus` and `_stats`. Counting is plain numbers that go up; what else is told is looked up when
 * somebody asks.
 */
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import { METHODS } from './http/router.js';

/** What is looked up. */
export interface MetricSources {
  readonly openShards: () => number;
  readonly openDatabases: () => number;
  readonly documentReads: () => number;
  readonly documentWrites: () => number;
  readonly feeds: () => number;
  readonly authCacheHits: () => number;
  readonly authCacheMisses: () => number;
  readonly compactionsRunning: () => number;
  readonly compactions: () => number;
  /** Of jobs that split and merge shards. */
  readonly jobsWorking: () => number;
  readonly jobsWaiting: () => number;
  readonly jobsCompleted: () => number;
  readonly jobsFailed: () => number;
  readonly jobsRetried: () => number;
  readonly jobBytes: () => { readonly done: number; readonly total: number };
}

/** What a port knows of its connections. */
export interface TrafficSource {
  readonly connections: number;
  readonly bytesIn: number;
  readonly bytesOut: number;
}

export interface MemoryUse {
  readonly rss: number;
  readonly heapTotal: number;
  readonly heapUsed: number;
  readonly external: number;
  readonly arrayBuffers: number;
}

/** How late the event loop was, in milliseconds, since it was asked before. */
export interface EventLoopDelay {
  readonly mean: number;
  readonly p99: number;
  readonly max: number;
}

/** The process that the server runs in, which it does not look at by itself. */
export interface ProcessMeter {
  memory(): MemoryUse;
  eventLoopDelay(): EventLoopDelay;
}

/** In seconds. */
const LATENCY_BUCKETS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30];
const OTHER = 'other';
const KNOWN_METHODS: ReadonlySet<string> = new Set([...METHODS, 'HEAD']);
const NO_TRAFFIC: TrafficSource = { connections: 0, bytesIn: 0, bytesOut: 0 };

export class Metrics {
  readonly #sources: MetricSources;
  readonly #process: ProcessMeter | undefined;
  readonly #registry = new Registry();
  readonly #latency: Histogram;
  /** By method, by status. */
  readonly #requests = new Map<string, Map<number, number>>();
  #traffic = NO_TRAFFIC;
  #errors = 0;

  constructor(sources: MetricSources, process: ProcessMeter | undefined) {
    this.#sources = sources;
    this.#process = process;
    this.#latency = new Histogram({
      name: 'divan_http_request_duration_seconds',
      help: 'From the headers of a request to the end of its reply.',
      buckets: LATENCY_BUCKETS,
      registers: [this.#registry],
    });
    this.#registerCounters();
    this.#registerGauges();
    this.#registerJobs();
  }

  /** Says whose connections are counted. */
  watch(traffic: TrafficSource): void {
    this.#traffic = traffic;
  }

  /** Counts a request that was served. */
  request(method: string, status: number, ms: number): void {
    const known = KNOWN_METHODS.has(method) ? method : OTHER;
    let statuses = this.#requests.get(known);
    if (statuses === undefined) {
      statuses = new Map();
      this.#requests.set(known, statuses);
    }
    statuses.set(status, (statuses.get(status) ?? 0) + 1);
    this.#latency.observe(ms / 1000);
  }

  /** Counts a defect, or a failure that an operator should look into. */
  error(): void {
    this.#errors++;
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  /** In the text format of Prometheus. */
  prometheus(): Promise<string> {
    return this.#registry.metrics();
  }

  get process(): ProcessMeter | undefined {
    return this.#process;
  }

  /** The same numbers in the shape of CouchDB's `_stats`. */
  stats(): StatsGroup {
    const { openShards, openDatabases, documentReads, documentWrites } = this.#sources;
    const { feeds, authCacheHits, authCacheMisses } = this.#sources;
    const byMethod = new Map<string, number>();
    const byStatus = new Map<string, number>();
    let requests = 0;
    for (const { method, status, count } of this.#counted()) {
      byMethod.set(method, (byMethod.get(method) ?? 0) + count);
      byStatus.set(String(status), (byStatus.get(String(status)) ?? 0) + count);
      requests += count;
    }
    return {
      couchdb: {
        auth_cache_hits: counter(authCacheHits(), 'number of authentication cache hits'),
        auth_cache_misses: counter(authCacheMisses(), 'number of authentication cache misses'),
        database_reads: counter(documentReads(), 'number of times a document was read'),
        database_writes: counter(documentWrites(), 'number of times a document was written'),
        open_databases: counter(openDatabases(), 'number of open databases'),
        open_os_files: counter(openShards(), 'number of shard files that are open'),
        httpd: {
          requests: counter(requests, 'number of HTTP requests'),
          clients_requesting_changes: counter(feeds(), 'number of feeds that wait for changes'),
        },
        httpd_request_methods: counters(byMethod, (name) => `number of HTTP ${name} requests`),
        httpd_status_codes: counters(byStatus, (name) => `number of HTTP ${name} responses`),
      },
    };
  }

  *#counted(): Generator<{ method: string; status: number; count: number }> {
    for (const [method, statuses] of this.#requests) {
      for (const [status, count] of statuses) yield { method, status, count };
    }
  }

  #registerCounters(): void {
    const counted = () => this.#counted();
    new Counter({
      name: 'divan_http_requests_total',
      help: 'Requests by method and status.',
      labelNames: ['method', 'status'],
      registers: [this.#registry],
      collect() {
        this.reset();
        for (const { method, status, count } of counted()) this.inc({ method, status }, count);
      },
    });
    const { documentReads, documentWrites, authCacheHits, compactions } = this.#sources;
    this.#total('divan_document_reads_total', 'Documents that were read.', documentReads);
    this.#total('divan_document_writes_total', 'Documents that were written.', documentWrites);
    this.#total('divan_auth_cache_hits_total', 'Credentials known already.', authCacheHits);
    this.#total('divan_compactions_total', 'Compactions that came to their end.', compactions);
    this.#total('divan_errors_total', 'Requests that failed by a fault of the server.', () => {
      return this.#errors;
    });
    this.#total('divan_bytes_in_total', 'Bytes from clients.', () => this.#traffic.bytesIn);
    this.#total('divan_bytes_out_total', 'Bytes to clients.', () => this.#traffic.bytesOut);
  }

  #registerGauges(): void {
    const { openShards, openDatabases, feeds, compactionsRunning } = this.#sources;
    this.#gauge('divan_open_connections', 'Connections.', () => this.#traffic.connections);
    this.#gauge('divan_open_shards', 'Shard files that are open.', openShards);
    this.#gauge('divan_open_databases', 'Databases with an open shard.', openDatabases);
    this.#gauge('divan_feeds', 'Feeds that wait for changes.', feeds);
    this.#gauge('divan_compactions_running', 'Compactions under way.', compactionsRunning);
    const process = this.#process;
    if (process === undefined) return;
    new Gauge({
      name: 'divan_process_memory_bytes',
      help: 'Memory of the process by kind.',
      labelNames: ['kind'],
      registers: [this.#registry],
      collect() {
        for (const [kind, bytes] of Object.entries(process.memory())) this.set({ kind }, bytes);
      },
    });
    new Gauge({
      name: 'divan_event_loop_delay_seconds',
      help: 'How late the event loop was since this was asked before.',
      labelNames: ['quantity'],
      registers: [this.#registry],
      collect() {
        for (const [quantity, ms] of Object.entries(process.eventLoopDelay())) {
          this.set({ quantity }, ms / 1000);
        }
      },
    });
  }

  #registerJobs(): void {
    const { jobsWorking, jobsWaiting, jobsCompleted, jobsFailed, jobsRetried, jobBytes } =
      this.#sources;
    const prefix = 'divan_shard_jobs';
    this.#gauge(`${prefix}_running`, 'Splits and merges that work.', jobsWorking);
    this.#gauge(`${prefix}_waiting`, 'Splits and merges that wait or are stopped.', jobsWaiting);
    this.#gauge(`${prefix}_bytes_done`, 'What those that work copied.', () => jobBytes().done);
    this.#gauge(`${prefix}_bytes`, 'What those that work have to copy.', () => jobBytes().total);
    this.#total(`${prefix}_completed_total`, 'Splits and merges completed.', jobsCompleted);
    this.#total(`${prefix}_failed_total`, 'Splits and merges that failed.', jobsFailed);
    this.#total(`${prefix}_retries_total`, 'Phases that were tried again.', jobsRetried);
  }

  #total(name: string, help: string, value: () => number): void {
    new Counter({
      name,
      help,
      registers: [this.#registry],
      collect() {
        this.reset();
        this.inc(value());
      },
    });
  }

  #gauge(name: string, help: string, value: () => number): void {
    new Gauge({
      name,
      help,
      registers: [this.#registry],
      collect() {
        this.set(value());
      },
    });
  }
}

/** A number with what it is, in CouchDB's shape. */
export interface StatsValue {
  readonly value: number;
  readonly type: 'counter';
  readonly desc: string;
}

export interface StatsGroup {
  readonly [name: string]: StatsValue | StatsGroup;
}

function counter(value: number, desc: string): StatsValue {
  return { value, type: 'counter', desc };
}

function counters(
  values: ReadonlyMap<string, number>,
  describe: (name: string) => string,
): StatsGroup {
  return Object.fromEntries(
    [...values].map(([name, value]) => [name, counter(value, describe(name))]),
  );
}
