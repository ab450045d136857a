/** The name and password of an admin, from the command, the environment, or whoever sits there. */
import { createInterface } from 'node:readline';
import { Writable } from 'node:stream';
import { DivanError } from '../../engine/errors.js';
import type { Credentials } from './admin-client.js';

export const PASSWORD_ENVIRONMENT = 'DIVAN_PASSWORD';

/** Asks for what was not given. Throws `INVALID_SETTING` where there is nobody to ask, `ABORTED`. */
export async function credentialsOf(
  user: string | undefined,
  signal: AbortSignal,
): Promise<Credentials> {
  const name = user ?? (await ask('Name of the admin: ', true, signal, '--user NAME'));
  const password =
    process.env[PASSWORD_ENVIRONMENT] ??
    (await ask(`Password of ${name}: `, false, signal, `the variable ${PASSWORD_ENVIRONMENT}`));
  return { user: name, password };
}

async function ask(
  question: string,
  isShown: boolean,
  signal: AbortSignal,
  instead: string,
): Promise<string> {
  if (process.stdin.isTTY !== true) {
    const reason = `there is no terminal to ask at; give ${instead}`;
    throw new DivanError('INVALID_SETTING', reason);
  }
  process.stderr.write(question);
  const silent = new Writable({ write: (_chunk, _encoding, done) => done() });
  const output = isShown ? process.stderr : silent;
  const lines = createInterface({ input: process.stdin, output, terminal: true });
  try {
    return await new Promise<string>((resolve, reject) => {
      const cancelled = () => reject(new DivanError('ABORTED', 'cancelled'));
      signal.addEventListener('abort', cancelled, { once: true });
      lines.once('SIGINT', cancelled);
      lines.once('line', resolve);
      lines.once('close', cancelled);
    });
  } finally {
    lines.close();
    if (!isShown) process.stderr.write('\n');
  }
}
