/** A program to be imported into another: watches its process, and writes at the end what that used, to the file that `DIVAN_BENCH_USAGE` names. */
import { writeFileSync } from 'node:fs';
import { UsageMeter } from './usage.js';

const meter = new UsageMeter();
process.on('exit', () => {
  writeFileSync(process.env['DIVAN_BENCH_USAGE'] ?? '', JSON.stringify(meter.read()));
});
