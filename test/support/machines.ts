/**
 * Machines of their own for servers: network namespaces of Linux on one bridge, each with its own loopback and ports. Where they can not be
 * made, for lack of rights or of `ip`, all servers are on this machine, and their ports tell them apart.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import type { Test } from 'tap';

export interface Machine {
  /** Where the others reach it. */
  readonly address: string;
  /** Of the server on it; all have the same where they are machines of their own. */
  readonly port: number;
  /** Stands before a command that is to run on it. */
  readonly wrapper: readonly string[];
}

const BRIDGE = 'br0';
const PORT = 5984;
/** Below those that the system hands out; each process of a test has some of its own. */
const SHARED_PORTS_FROM = 20_000 + (process.pid % 300) * 40;
let made = 0;
let sharedPort = SHARED_PORTS_FROM;

function ip(...args: readonly string[]): void {
  execFileSync('ip', args, { stdio: ['ignore', 'ignore', 'pipe'] });
}

/** Makes some, which are gone at the end of the test. Says so in the output of the test if they share one machine. */
export function makeMachines(t: Test, count: number): readonly Machine[] {
  const prefix = `dv${process.pid.toString(36)}${made++}`;
  const hub = `${prefix}h`;
  const names = Array.from({ length: count }, (_, index) => `${prefix}n${index + 1}`);
  const remove = () => {
    for (const name of [...names, hub])
      spawnSync('ip', ['netns', 'del', name], { stdio: 'ignore' });
  };
  t.teardown(remove);
  try {
    ip('netns', 'add', hub);
    ip('-n', hub, 'link', 'add', BRIDGE, 'type', 'bridge');
    ip('-n', hub, 'link', 'set', BRIDGE, 'up');
    return names.map((name, index) => joined(hub, name, index + 1));
  } catch (error) {
    remove();
    const why = error instanceof Error ? error.message.split('\n').slice(0, 2).join(' ') : '';
    t.comment(`no network namespaces here, so that all servers share one machine: ${why}`);
    return sharedMachines(count);
  }
}

/** This machine, as often as is wanted, with different ports. */
export function sharedMachines(count: number): readonly Machine[] {
  return Array.from({ length: count }, () => {
    return { address: '127.0.0.1', port: sharedPort++, wrapper: [] };
  });
}

function joined(hub: string, name: string, number: number): Machine {
  const address = `10.77.0.${number}`;
  const plug = `p${number}`;
  ip('netns', 'add', name);
  ip('-n', name, 'link', 'set', 'lo', 'up');
  ip('link', 'add', 'eth0', 'netns', name, 'type', 'veth', 'peer', 'name', plug, 'netns', hub);
  ip('-n', hub, 'link', 'set', plug, 'master', BRIDGE);
  ip('-n', hub, 'link', 'set', plug, 'up');
  ip('-n', name, 'addr', 'add', `${address}/24`, 'dev', 'eth0');
  ip('-n', name, 'link', 'set', 'eth0', 'up');
  return { address, port: PORT, wrapper: ['ip', 'netns', 'exec', name] };
}

/** Takes a machine off the network of the others, or puts it back. REQUIRES: it is one of its own. */
export function plug({ wrapper }: Machine, isIn: boolean): void {
  const [first = '', ...args] = [...wrapper, 'ip', 'link', 'set', 'eth0', isIn ? 'up' : 'down'];
  execFileSync(first, args, { stdio: 'ignore' });
}
