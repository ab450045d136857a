/**
 * A program: what node:http does at best. `node http-bare.js FILE BYTES` answers every GET with the same body of so many bytes, and
 * everything else once its body is in the file and synced; bodies that come meanwhile are synced together.
 */
import { open } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';

interface Write {
  readonly bytes: Buffer;
  readonly done: () => void;
}

const [, , path = '', bytes = '0'] = process.argv;
const body = Buffer.alloc(Number(bytes), 'x');
const JSON_TYPE = { 'Content-Type': 'application/json' } as const;
const STORED = Buffer.from('{"ok":true}\n');

const file = await open(path, 'a');
let waiting: Write[] = [];
let syncing = false;

async function syncAll(): Promise<void> {
  if (syncing) return;
  syncing = true;
  while (waiting.length > 0) {
    const writes = waiting;
    waiting = [];
    await file.appendFile(Buffer.concat(writes.map(({ bytes }) => bytes)));
    await file.datasync();
    for (const { done } of writes) done();
  }
  syncing = false;
}

function answer(response: ServerResponse, status: number, content: Buffer): void {
  response.writeHead(status, { ...JSON_TYPE, 'Content-Length': content.length });
  response.end(content);
}

function store(request: IncomingMessage, response: ServerResponse): void {
  const chunks: Buffer[] = [];
  request.on('data', (chunk: Buffer) => chunks.push(chunk));
  request.on('end', () => {
    waiting.push({ bytes: Buffer.concat(chunks), done: () => answer(response, 201, STORED) });
    void syncAll();
  });
}

const server = createServer((request, response) => {
  if (request.method === 'GET') answer(response, 200, body);
  else store(request, response);
});
server.listen(0, '127.0.0.1', () => {
  const address = server.address();
  const port = typeof address === 'object' ? address?.port : undefined;
  process.stdout.write(`a bare server listens on http://127.0.0.1:${port}/\n`);
});
process.once('SIGTERM', () => process.exit());
