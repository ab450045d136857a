/**
 * The one table of settings. They are named `section/key` as in CouchDB where they mean the same (its `rel/overlay/etc/default.ini`), so
 * that its configuration files and scripts work. Whatever in the server has a bound has it here; only the depth of JSON is fixed.
 */
import { ACCESS_SETTINGS } from './access-settings.js';
import { address, boolean, bytes, choice, file, integer, type Setting, text } from './setting.js';

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;
const MINUTE_MS = 60_000;
const DAY_MS = 24 * 60 * MINUTE_MS;
const WAIT = { min: 100, max: DAY_MS, unit: 'milliseconds' };

const TABLE = {
  'node/name': text({
    default: 'node1@127.0.0.1',
    about: 'The name of this node.',
    expects: 'a name and a host, such as node1@127.0.0.1',
    pattern: /^[A-Za-z0-9_-]{1,64}@[A-Za-z0-9.:-]{1,255}$/,
    env: 'DIVAN_NAME',
    flag: '--name',
  }),
  'node/advertise': text({
    default: '',
    about: 'The URL under which other nodes reach this one; by default the host in its name.',
    expects: 'a URL of scheme, host and port, such as http://10.0.0.1:5984',
    pattern: /^https?:\/\/([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:\d{1,5})?\/?$/,
    env: 'DIVAN_ADVERTISE',
    flag: '--advertise',
  }),
  'couchdb/database_dir': text({
    default: 'data',
    about: 'The directory of all data.',
    expects: 'the path of a directory',
    env: 'DIVAN_DATA_DIR',
    flag: '--data-dir',
  }),
  'log/level': choice({
    of: ['debug', 'info', 'warning', 'error', 'none'],
    default: 'info',
    about: 'The least of what is logged.',
    env: 'DIVAN_LOG_LEVEL',
    flag: '--log-level',
    writable: true,
  }),

  'chttpd/bind_address': address({
    default: '127.0.0.1',
    about: 'The address to listen at; beyond loopback only when an admin is configured.',
    env: 'DIVAN_HOST',
    flag: '--host',
  }),
  'chttpd/port': integer({
    default: 5984,
    about: 'The port to listen at; 0 for any free one.',
    min: 0,
    max: 65_535,
    env: 'DIVAN_PORT',
    flag: '--port',
  }),
  'chttpd/cert_file': file({
    about: 'The certificate to serve https with, and those between it and its authority; in PEM.',
  }),
  'chttpd/key_file': file({ about: 'The key of that certificate, in PEM.' }),
  'chttpd/max_connections': integer({
    default: 4096,
    about: 'How many connections may be open.',
    min: 1,
    max: 1_000_000,
  }),
  'chttpd/header_timeout': integer({
    default: MINUTE_MS,
    about: 'How long a client may take to send the headers of a request.',
    ...WAIT,
  }),
  'chttpd/body_timeout': integer({
    default: MINUTE_MS,
    about: 'How long a client may send nothing of a body that it began.',
    ...WAIT,
  }),
  'chttpd/idle_timeout': integer({
    default: MINUTE_MS,
    about: 'How long a connection is kept open between requests.',
    ...WAIT,
  }),
  'chttpd/slow_reader_timeout': integer({
    default: MINUTE_MS,
    about: 'How long a client may read nothing of a reply.',
    ...WAIT,
  }),
  'chttpd/max_header_size': bytes({
    default: 16 * KIB,
    about: 'How large all headers of a request may be.',
    min: KIB,
    max: MIB,
  }),
  'chttpd/max_uri_length': bytes({
    default: 8 * KIB,
    about: 'How long the path and query of a request may be.',
    min: 256,
    max: MIB,
  }),
  'chttpd/max_query_parameters': integer({
    default: 100,
    about: 'How many parameters a query may have.',
    min: 1,
    max: 10_000,
  }),
  'chttpd/max_http_request_size': bytes({
    default: 64 * MIB,
    about:
      'How large the body of a request may be, inflated; an attachment has a bound of its own.',
    min: KIB,
    max: 4 * GIB,
    writable: true,
  }),
  'chttpd/max_request_bytes_in_flight': bytes({
    default: 256 * MIB,
    about: 'How many bytes of request bodies are held in memory over all connections.',
    min: MIB,
    max: 64 * GIB,
  }),
  'chttpd/max_buffered_response': bytes({
    default: 64 * KIB,
    about: 'How many bytes of a reply wait for a client that reads slowly.',
    min: 16 * KIB,
    max: GIB,
  }),
  'chttpd/max_multipart_parts': integer({
    default: 1000,
    about: 'How many parts a multipart body may have.',
    min: 1,
    max: 1_000_000,
    writable: true,
  }),
  'chttpd/max_all_docs_keys': integer({
    default: 100_000,
    about: 'How many keys a request to _all_docs may list.',
    min: 1,
    max: 10_000_000,
    writable: true,
  }),
  'chttpd/changes_timeout': integer({
    default: MINUTE_MS,
    about: 'How long a _changes feed waits for a change, or between two heartbeats, at most.',
    ...WAIT,
    writable: true,
  }),
  'chttpd/max_changes_feeds': integer({
    default: 2000,
    about: 'How many _changes feeds may be open that wait for changes.',
    min: 1,
    max: 1_000_000,
    writable: true,
  }),
  'chttpd/max_changes_feeds_per_user': integer({
    default: 1000,
    about: 'How many such feeds one user may have open.',
    min: 1,
    max: 1_000_000,
    writable: true,
  }),
  'chttpd/require_valid_user': boolean({
    default: false,
    about: 'Whether every request needs a name and password, but for `/_up` and `/_session`.',
    writable: true,
  }),

  'couchdb/default_security': choice({
    of: ['admin_only', 'everyone', 'admin_local'],
    default: 'admin_only',
    about: 'Who may use a database that has no security object.',
    writable: true,
  }),
  'couchdb/maintenance_mode': choice({
    of: ['false', 'true', 'nolb'],
    default: 'false',
    about:
      'Whether `/_up` answers 404, so that load balancers send no requests here; those that come are served.',
    writable: true,
  }),
  'couchdb/max_document_size': bytes({
    default: 8_000_000,
    about: 'How large a document may be, its attachments not counted.',
    min: 1,
    max: GIB,
    writable: true,
  }),
  'couchdb/max_attachment_size': bytes({
    default: GIB,
    about: 'How large an attachment may be.',
    min: 0,
    max: 1024 * GIB,
    writable: true,
  }),
  'couchdb/max_bulk_docs_count': integer({
    default: 10_000,
    about: 'How many documents a request to _bulk_docs may bring.',
    min: 1,
    max: 10_000_000,
    writable: true,
  }),
  'couchdb/max_bulk_get_count': integer({
    default: 10_000,
    about: 'How many revisions a request to _bulk_get may ask for.',
    min: 1,
    max: 10_000_000,
    writable: true,
  }),
  'couchdb/max_dbs_open': integer({
    default: 500,
    about: 'How many shard files are kept open; more only while that many are in use.',
    min: 1,
    max: 100_000,
  }),
  'couchdb/idle_shard_timeout': integer({
    default: 5 * MINUTE_MS,
    about: 'How long a shard file that nobody uses is kept open.',
    ...WAIT,
  }),
  'couchdb/cache_size': bytes({
    default: 128 * MIB,
    about: 'How much memory may hold tree nodes and small documents, of all databases together.',
    min: MIB,
    max: 64 * GIB,
  }),
  'compaction/dead_percent': integer({
    default: 50,
    about: 'A shard is compacted when more than this share of its file is dead; 0 for never.',
    min: 0,
    max: 99,
    unit: 'percent',
  }),
  'compaction/min_file_size': bytes({
    default: 4 * MIB,
    about: 'Shard files smaller than this are not compacted by themselves.',
    min: 0,
    max: 1024 * GIB,
  }),
  'reshard/max_running': integer({
    default: 2,
    about: 'How many jobs that split or merge shards work at once.',
    min: 1,
    max: 64,
    writable: true,
  }),
  'reshard/max_jobs': integer({
    default: 48,
    about: 'How many jobs that split or merge shards may wait for their turn.',
    min: 0,
    max: 10_000,
    writable: true,
  }),
  'reshard/rate': bytes({
    default: 32 * MIB,
    about:
      'How much such a job may copy in a second, if it does not say that itself; 0 for no limit.',
    min: 0,
    max: 1024 * GIB,
    writable: true,
  }),
  'reshard/max_write_pause': integer({
    default: 250,
    about: 'How long writes may wait for the moment in which shards take the place of others.',
    min: 1,
    max: MINUTE_MS,
    unit: 'milliseconds',
    writable: true,
  }),
  'reshard/max_retries': integer({
    default: 5,
    about: 'How often a phase of such a job is tried again before the job fails.',
    min: 0,
    max: 1000,
    writable: true,
  }),
  'reshard/retry_interval': integer({
    default: 10_000,
    about: 'How long such a job waits before it tries again, twice as long each time.',
    ...WAIT,
    writable: true,
  }),
  'purge/max_document_id_number': integer({
    default: 100,
    about: 'How many documents a request to _purge may name.',
    min: 1,
    max: 100_000,
    writable: true,
  }),
  'purge/max_revisions_number': integer({
    default: 1000,
    about: 'How many revisions a request to _purge may name.',
    min: 1,
    max: 1000,
    writable: true,
  }),
  'cluster/q': integer({
    default: 2,
    about: 'How many shards a new database gets.',
    min: 1,
    max: 256,
    writable: true,
  }),
  'cluster/n': integer({
    default: 1,
    about: 'How many copies of each shard a new database gets, if there are as many nodes.',
    min: 1,
    max: 10,
    writable: true,
  }),
  'cluster/ca_file': file({
    about:
      'The authorities of the certificates of other nodes, in PEM, if they are not well known.',
  }),
  'uuids/max_count': integer({
    default: 1000,
    about: 'How many ids a request to _uuids may ask for.',
    min: 1,
    max: 100_000,
    writable: true,
  }),

  ...ACCESS_SETTINGS,
};

type Table = typeof TABLE;

/** `section/key`. */
export type SettingName = keyof Table;

/** The value of each. */
export type SettingValues = {
  [N in SettingName]: Table[N] extends Setting<infer T> ? T : never;
};

export type Settings = { readonly [N in SettingName]: Setting<SettingValues[N]> };

export const SETTINGS: Settings = TABLE;

export type DefaultSecurity = SettingValues['couchdb/default_security'];

export const SETTING_NAMES: readonly SettingName[] = Object.keys(TABLE).filter(isSettingName);

export function isSettingName(name: string): name is SettingName {
  return Object.hasOwn(TABLE, name);
}

/** The section and the key of a setting. */
export function partsOf(name: SettingName): readonly [section: string, key: string] {
  const slash = name.indexOf('/');
  return [name.slice(0, slash), name.slice(slash + 1)];
}

/** The environment variable of a setting: `DIVAN_CHTTPD_MAX_CONNECTIONS`, if it has no shorter one. */
export function environmentName(name: SettingName): string {
  return SETTINGS[name].env ?? `DIVAN_${name.replace('/', '_').toUpperCase()}`;
}
