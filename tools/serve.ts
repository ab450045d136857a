/** `divan serve`: the server, until it is told to stop. */
import type { Command } from 'commander';
import { describeSettings } from '../server/config/config.js';
import { SETTING_NAMES, SETTINGS } from '../server/config/settings.js';
import { CONFIG_FILE } from '../server/config/sources.js';
import { runCommand } from './command.js';

export function registerServe(program: Command): void {
  const command = program
    .command('serve')
    .description('serve databases over HTTP, as CouchDB does')
    .option(`${CONFIG_FILE.flag} <file>`, 'a file of settings in the form of CouchDB’s local.ini');
  for (const name of SETTING_NAMES) {
    const { flag, about } = SETTINGS[name];
    if (flag !== undefined) command.option(`${flag} <value>`, about);
  }
  command.addHelpText('after', () => settingsHelp());
  command.action((options: Readonly<Record<string, string>>) =>
    runCommand({}, async ({ signal }) => {
      // To load the server takes several times as long as the rest of this program, which other commands do without.
      const { serve } = await import('./serve/server-process.js');
      return await serve(options, signal);
    }),
  );
}

/** All settings, as they stand in a configuration file. */
function settingsHelp(): string {
  const rows = describeSettings().map(({ name, env, default: value, about }) =>
    [
      `  ${name ?? env}`,
      `      ${about}`,
      `      default: ${value === '' ? 'none' : value}; ${env}`,
    ].join('\n'),
  );
  return `\nSettings, from weakest to strongest: default, file, written over HTTP, environment, flag\n${rows.join('\n')}`;
}
