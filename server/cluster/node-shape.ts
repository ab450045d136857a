/** How the name and the URL of a node may look. Other nodes say them, and requests are sent there. */
import type { JsonValue } from '../http/json-value.js';

const NAME = /^[A-Za-z0-9_-]{1,64}@[A-Za-z0-9.:-]{1,255}$/;
const URL_OF_NODE = /^https?:\/\/([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:\d{1,5})?$/;

/** True for `name@host`. */
export function isNodeName(value: JsonValue | undefined): value is string {
  return typeof value === 'string' && NAME.test(value);
}

/** True for a scheme, a host and maybe a port, and nothing else: no credentials, path or query. */
export function isNodeUrl(value: JsonValue | undefined): value is string {
  return typeof value === 'string' && URL_OF_NODE.test(value) && URL.canParse(value);
}
