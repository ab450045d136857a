/** What the figures were measured on. */
import { readFileSync, realpathSync, statfsSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';

/** Node, processors, memory and disk, each on a line. */
export function machineLines(directory: string): string[] {
  const models = new Set(cpus().map(({ model }) => model.trim() || 'unknown'));
  const memory = (totalmem() / 2 ** 30).toFixed(1);
  return [
    `Node ${process.version} on ${process.platform} ${process.arch}`,
    `CPU ${cpus().length} x ${[...models].join(', ') || 'unknown'}, memory ${memory} GiB`,
    `disk ${disk(directory)}`,
  ];
}

/** File system, device and free space of a directory. */
function disk(directory: string): string {
  const mount = mountOf(realpathSync(directory));
  const name = mount === undefined ? 'unknown' : `${mount.type} on ${mount.device}`;
  const { bavail, bsize } = statfsSync(directory);
  return `${name}, ${((bavail * bsize) / 2 ** 30).toFixed(0)} GiB free`;
}

interface Mount {
  readonly device: string;
  readonly path: string;
  readonly type: string;
}

/** The mount that a path is on: the one with the longest path that leads to it, and of several the last. */
function mountOf(path: string): Mount | undefined {
  let found: Mount | undefined;
  for (const mount of mounts()) {
    const leads = path === mount.path || path.startsWith(mount.path.replace(/\/?$/, '/'));
    if (leads && mount.path.length >= (found?.path.length ?? 0)) found = mount;
  }
  return found;
}

function mounts(): Mount[] {
  try {
    const lines = readFileSync('/proc/mounts', 'utf8').trimEnd().split('\n');
    return lines.map((line) => {
      const [device = 'unknown', path = '/', type = 'unknown'] = line.split(' ');
      return { device, type, path: path.replaceAll('\\040', ' ') };
    });
  } catch {
    return [];
  }
}
