/**
 * Whether a request was made on this machine, and meant for it. A connection from loopback is not enough: a proxy on this machine hands on what
 * comes from anywhere, and a page of any site has a browser send requests, to a name of its own that leads here (DNS rebinding), too.
 */
import type { IncomingMessage } from 'node:http';
import { isIP } from 'node:net';

const LOOPBACK_V4 = /^127(\.\d{1,3}){3}$/;
/** What proxies add, and `X-Forwarded-…`. */
const FORWARDING = new Set([
  ...['forwarded', 'via', 'x-real-ip', 'x-client-ip', 'x-cluster-client-ip', 'true-client-ip'],
  ...['cf-connecting-ip', 'fastly-client-ip', 'x-original-host', 'x-original-forwarded-for'],
]);
const FORWARDING_PREFIX = 'x-forwarded-';

type Requested = Pick<IncomingMessage, 'headers' | 'httpVersion' | 'rawHeaders'> & {
  readonly socket: { readonly remoteAddress?: string | undefined };
};

/** True for a request on a loopback connection, to a loopback host, from no page and by no proxy. */
export function isFromThisMachine({
  headers,
  httpVersion,
  rawHeaders,
  socket,
}: Requested): boolean {
  return (
    // A proxy that is configured no further, such as nginx, says nothing of itself and names this machine as the host, but speaks HTTP/1.0.
    httpVersion !== '1.0' &&
    isLoopbackAddress(socket.remoteAddress ?? '') &&
    isLoopbackHost(headers.host ?? '') &&
    headers.origin === undefined &&
    !rawHeaders.some((name, index) => index % 2 === 0 && isForwarding(name.toLowerCase()))
  );
}

function isForwarding(name: string): boolean {
  return FORWARDING.has(name) || name.startsWith(FORWARDING_PREFIX);
}

function isLoopbackAddress(address: string): boolean {
  if (address === '::1') return true;
  const v4 = /^::ffff:/i.test(address) ? address.slice('::ffff:'.length) : address;
  return isIP(v4) === 4 && LOOPBACK_V4.test(v4);
}

/** Of a `Host` header, with or without a port. */
function isLoopbackHost(host: string): boolean {
  const [, name = ''] = /^([^:[\]]+|\[[0-9a-f:]+\])(?::\d{1,5})?$/i.exec(host) ?? [];
  const lower = name.toLowerCase();
  return (
    lower === 'localhost' || lower === '[::1]' || (isIP(lower) === 4 && LOOPBACK_V4.test(lower))
  );
}
