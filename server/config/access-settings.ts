/** The settings of who may come in: pages of other sites, sessions, passwords. Part of the table of `settings.ts`. */
import { boolean, choice, integer, text } from './setting.js';

const MINUTE_MS = 60_000;
const DAY_MS = 24 * 60 * MINUTE_MS;
const COUNT_MAX = 1_000_000_000;

const ORIGIN = String.raw`(?:\*|https?:\/\/[A-Za-z0-9.:[\]-]+)`;
/** Origins with commas between. */
const ORIGINS = new RegExp(`^(?:none|${ORIGIN}(?: *, *${ORIGIN})*)$`);

export const ACCESS_SETTINGS = {
  'chttpd/enable_cors': boolean({
    default: false,
    about: 'Whether pages of other sites, those of `cors/origins`, may use this server.',
    writable: true,
  }),
  'cors/origins': text({
    default: 'none',
    about: 'The sites whose pages may read replies, with commas between; `*` for all.',
    expects: 'origins such as https://app.example with commas between, or *, or none',
    pattern: ORIGINS,
    writable: true,
  }),
  'cors/credentials': boolean({
    default: false,
    about: 'Whether these pages may send passwords, and those of sites that are named, cookies.',
    writable: true,
  }),
  'cors/methods': text({
    default: 'GET, HEAD, POST, PUT, DELETE, COPY',
    about: 'With which methods these pages may send requests.',
    expects: 'methods of HTTP in capitals with commas between',
    pattern: /^[A-Z]+( *, *[A-Z]+)*$/,
    writable: true,
  }),
  'cors/headers': text({
    default: 'accept, authorization, content-type, origin, referer',
    about: 'Headers that these pages may send, beside those that clients of CouchDB send.',
    expects: 'names of headers with commas between',
    pattern: /^[A-Za-z0-9-]+( *, *[A-Za-z0-9-]+)*$/,
    writable: true,
  }),
  'cors/max_age': integer({
    default: 600,
    about: 'How long browsers remember what these pages may.',
    min: 0,
    max: 24 * 3600,
    unit: 'seconds',
    writable: true,
  }),

  'chttpd_auth/timeout': integer({
    default: 600,
    about: 'How long a session lasts without being used.',
    min: 1,
    max: 365 * 24 * 3600,
    unit: 'seconds',
    writable: true,
  }),
  'chttpd_auth/allow_persistent_cookies': boolean({
    default: true,
    about: 'Whether a browser keeps the session when it is closed.',
    writable: true,
  }),
  'chttpd_auth/same_site': choice({
    of: ['strict', 'lax', 'none'],
    default: 'strict',
    about: 'From which sites a browser sends the session cookie along; none makes it Secure.',
    writable: true,
  }),
  'chttpd_auth/secure_cookie': boolean({
    default: false,
    about: 'Whether browsers may send the session cookie over https only.',
    writable: true,
  }),
  'chttpd_auth/iterations': integer({
    default: 600_000,
    about: 'The iterations of PBKDF2 with SHA-256 for new password hashes.',
    min: 1,
    max: 10_000_000,
    writable: true,
  }),
  'chttpd_auth/max_iterations': integer({
    default: 10_000_000,
    about: 'Passwords whose hash takes more iterations are refused unread.',
    min: 1,
    max: COUNT_MAX,
  }),
  'chttpd_auth/max_hash_queue': integer({
    default: 100,
    about: 'How many passwords may wait to be hashed.',
    min: 1,
    max: 10_000,
  }),
  'chttpd_auth_cache/max_objects': integer({
    default: 1000,
    about: 'How many verified credentials are remembered.',
    min: 0,
    max: 1_000_000,
  }),
  'chttpd_auth_cache/max_lifetime': integer({
    default: 10 * MINUTE_MS,
    about: 'How long verified credentials are remembered.',
    min: 0,
    max: DAY_MS,
    unit: 'milliseconds',
    writable: true,
  }),
  'chttpd_auth_lockout/threshold': integer({
    default: 5,
    about: 'After so many wrong passwords a user has to wait, longer each time.',
    min: 1,
    max: 1_000_000,
    writable: true,
  }),
  'chttpd_auth_lockout/max_lifetime': integer({
    default: 5 * MINUTE_MS,
    about: 'The longest such wait, and how long wrong passwords are remembered.',
    min: 1000,
    max: DAY_MS,
    unit: 'milliseconds',
    writable: true,
  }),
  'chttpd_auth_lockout/max_objects': integer({
    default: 10_000,
    about: 'Of how many users and addresses wrong passwords are remembered.',
    min: 1,
    max: 1_000_000,
  }),
};
