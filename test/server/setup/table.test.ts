/**
 * Goal: every cell of the table of endpoints, states and actions in `server/cluster/README.md` is so, and what changes nothing changes nothing.
 * Method: the table itself is read; for each cell a real server in that state is asked, and its records and state are looked at.
 */
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import t from 'tap';
import { FakeNetwork } from '../../support/fake-network.js';
import { adding, OPERATOR, type SetupAnswer, SetupNode } from '../../support/setup-node.js';

const STATES = ['disabled', 'enabled, alone', 'enabled, nodes', 'finished', 'single'] as const;
type State = (typeof STATES)[number];

interface Row {
  readonly request: string;
  readonly cells: readonly string[];
}

function table(): Row[] {
  const [, section = ''] = readFileSync('server/cluster/README.md', 'utf8').split(
    '### What is answered',
  );
  const [whole = ''] = section.split('\n###');
  const lines = whole.split('\n').filter((line) => line.startsWith('|'));
  const cellsOf = (line: string) =>
    line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim());
  const [head = '', , ...rows] = lines;
  t.same(cellsOf(head).slice(1), STATES);
  return rows.map((line) => {
    const [request = '', ...cells] = cellsOf(line);
    return { request: request.replaceAll('`', ''), cells };
  });
}

/** A node that is to be asked, and what it may need. */
class Scene {
  readonly network = new FakeNetwork();
  readonly #started: SetupNode[] = [];
  #count = 0;
  #node: SetupNode | undefined;
  /** Others that are enabled and belong to nobody. */
  #spare: SetupNode | undefined;
  member = '';

  get node(): SetupNode {
    if (this.#node === undefined) throw new RangeError('no node');
    return this.#node;
  }

  async reach(state: State): Promise<void> {
    const node = await this.start();
    this.#node = node;
    if (state === 'disabled') return;
    if (state === 'single') {
      const body = { action: 'enable_single_node' };
      await node.ask('POST', '/_cluster_setup', { body, as: OPERATOR });
      return;
    }
    await node.act(node.enabling());
    if (state === 'enabled, alone') return;
    const other = await this.spare();
    this.member = other.name;
    await node.act(adding(other));
    this.#spare = undefined;
    if (state === 'finished') await node.act({ action: 'finish_cluster' });
  }

  /** With the operator for an admin. */
  async start(): Promise<SetupNode> {
    const name = `node${++this.#count}`;
    const node = await SetupNode.start(this.network, { name, admin: OPERATOR });
    this.#started.push(node);
    return node;
  }

  async spare(): Promise<SetupNode> {
    if (this.#spare !== undefined) return this.#spare;
    const node = await this.start();
    await node.act(node.enabling());
    this.#spare = node;
    return node;
  }

  async state(): Promise<string> {
    const old = await this.node.ask('GET', '/_cluster_setup', { as: OPERATOR });
    return /"(?:cluster_)?(disabled|enabled|finished|single)/.exec(old.text)?.[1] ?? old.text;
  }

  async close(): Promise<void> {
    for (const node of this.#started) await node.close();
  }
}

type Ask = (scene: Scene) => Promise<SetupAnswer>;

const [USER = '', PASS = ''] = OPERATOR.split(':');
const REMOTE = { action: 'enable_cluster', username: USER, node_count: 1, bind_address: '0.0.0.0' };

function setup(body: (scene: Scene) => Promise<object> | object, query = ''): Ask {
  return async (scene) => scene.node.act(await body(scene), query);
}

function clusterSetup(body: (scene: Scene) => Promise<object> | object): Ask {
  return async (scene) =>
    scene.node.ask('POST', '/_cluster_setup', { body: await body(scene), as: OPERATOR });
}

function plain(method: string, path: string): Ask {
  const headers = { 'content-type': 'text/plain' };
  const body = method === 'POST' ? { body: {}, headers } : {};
  return ({ node }) => node.ask(method, path, { as: OPERATOR, ...body });
}

function enabling(edit: object): Ask {
  return setup(({ node }) => ({ ...node.enabling(), ...edit }));
}

/** As `add_node` has it, flat. */
async function flat(scene: Scene, password = PASS): Promise<object> {
  const { port } = await scene.spare();
  return { action: 'add_node', username: USER, password, host: '127.0.0.1', port };
}

/** As another coordinator hands it over, which is about to be called back. */
async function cookieOf(scene: Scene, path: string): Promise<SetupAnswer> {
  const other = await scene.spare();
  // It sends the request itself, and gets what the node answers.
  const { user, pass } = { user: USER, pass: PASS };
  const node = { host: '127.0.0.1', port: scene.node.port };
  const answer = await other.act({ action: 'add_node', admin: { user, pass }, node });
  if (path === '/_setup' || answer.status === 201) return answer;
  const cookie = '0'.repeat(64);
  const from = { ...other.server.services.cluster.members.self, protocol: 1 };
  const body = { action: 'receive_cookie', cookie, from };
  return scene.node.ask('POST', path, { body, as: OPERATOR });
}

async function usedPort(): Promise<{ port: number; close: () => void }> {
  const other = createServer();
  await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
  const address = other.address();
  const port = typeof address === 'object' ? (address?.port ?? 0) : 0;
  return { port, close: () => other.close() };
}

const REQUESTS: ReadonlyMap<string, Ask> = new Map<string, Ask>([
  ['GET /_setup', plain('GET', '/_setup')],
  ['PUT /_setup', plain('PUT', '/_setup')],
  ['POST /_setup, no JSON', plain('POST', '/_setup')],
  ['/_setup enable_cluster', enabling({})],
  ['/_setup enable_cluster, empty user', enabling({ admin: { user: '', pass: PASS } })],
  ['/_setup enable_cluster, empty pass', enabling({ admin: { user: USER, pass: '' } })],
  ['/_setup enable_cluster, wrong pass', enabling({ admin: { user: USER, pass: 'another-one' } })],
  ['/_setup enable_cluster, another user', enabling({ admin: { user: 'x', pass: PASS } })],
  ['/_setup enable_cluster, bad address', enabling({ bind_address: 'localhost.example' })],
  ['/_setup enable_cluster, bad port', enabling({ port: 65_536 })],
  [
    '/_setup enable_cluster, port in use',
    async (scene) => {
      const { port, close } = await usedPort();
      const answer = await enabling({ port })(scene);
      close();
      return answer;
    },
  ],
  ['/_setup add_node', setup(async (scene) => adding(await scene.spare()))],
  [
    '/_setup add_node, the same again',
    async (scene) => {
      const again = setup(async () => adding(await scene.spare()));
      await again(scene);
      return again(scene);
    },
  ],
  ['/_setup add_node, nobody there', setup(() => adding({ port: 1 }))],
  [
    '/_setup add_node, surely',
    setup(async (scene) => adding(await scene.spare()), '?i_know_what_i_am_doing=true'),
  ],
  ['/_setup receive_cookie', (scene) => cookieOf(scene, '/_setup')],
  ['/_setup finish_cluster', setup(() => ({ action: 'finish_cluster' }))],
  ['/_setup finish_setup', setup(() => ({ action: 'finish_setup' }))],
  [
    '/_setup remove_node',
    setup(async (scene) => ({ action: 'remove_node', node: await emptied(scene) })),
  ],
  [
    '/_setup remove_node, itself',
    setup(({ node }) => ({ action: 'remove_node', node: node.name })),
  ],
  ['/_setup enable_single_node', setup(() => ({ action: 'enable_single_node' }))],
  ['/_setup no action', setup(() => ({}))],
  ['GET /_cluster_setup', plain('GET', '/_cluster_setup')],
  ['PUT /_cluster_setup', plain('PUT', '/_cluster_setup')],
  ['POST /_cluster_setup, no JSON', plain('POST', '/_cluster_setup')],
  [
    '/_cluster_setup enable_cluster',
    clusterSetup(({ node }) => ({ ...REMOTE, password: PASS, port: node.port })),
  ],
  [
    '/_cluster_setup enable_cluster, loopback',
    clusterSetup(() => ({ ...REMOTE, password: PASS, bind_address: '127.0.0.1' })),
  ],
  [
    '/_cluster_setup enable_cluster, no node_count',
    clusterSetup(() => ({ ...REMOTE, password: PASS, node_count: undefined })),
  ],
  [
    '/_cluster_setup enable_cluster, remote',
    clusterSetup(async (scene) => remote(await scene.start())),
  ],
  [
    '/_cluster_setup enable_cluster, remote again',
    clusterSetup(async (scene) => remote(await scene.spare())),
  ],
  ['/_cluster_setup enable_single_node', clusterSetup(() => ({ action: 'enable_single_node' }))],
  ['/_cluster_setup add_node', clusterSetup((scene) => flat(scene))],
  ['/_cluster_setup add_node, wrong password', clusterSetup((scene) => flat(scene, 'wrong-one'))],
  ['/_cluster_setup receive_cookie', (scene) => cookieOf(scene, '/_cluster_setup')],
  ['/_cluster_setup finish_cluster', clusterSetup(() => ({ action: 'finish_cluster' }))],
  [
    '/_cluster_setup remove_node',
    clusterSetup(async (scene) => ({ action: 'remove_node', name: await emptied(scene) })),
  ],
  ['/_cluster_setup delete_node', clusterSetup(() => ({ action: 'delete_node' }))],
]);

/** The name of the other node, which holds nothing any more. */
async function emptied({ node, member }: Scene): Promise<string> {
  const names =
    node.server.services.cluster.members.named(member) === undefined
      ? []
      : node.server.services.directory.names();
  for (const name of names) {
    await node.ask('DELETE', `/${name}`, { as: OPERATOR });
  }
  return member;
}

function remote({ port }: SetupNode): object {
  return {
    ...REMOTE,
    remote_node: '127.0.0.1',
    port,
    remote_current_user: USER,
    remote_current_password: PASS,
  };
}

const rows = table();

t.test('every request of the table is known', async (t) => {
  t.same(
    rows.map(({ request }) => request),
    [...REQUESTS.keys()],
  );
});

for (const [column, state] of STATES.entries()) {
  t.test(`the state ${state}`, async (t) => {
    let scene: Scene | undefined;
    for (const { request, cells } of rows) {
      const [status = '', next] = (cells[column] ?? '').split(' ');
      if (scene === undefined) {
        scene = new Scene();
        await scene.reach(state);
      }
      const where = `${request} in the state ${state}`;
      const before = { state: await scene.state(), records: scene.node.records() };
      const answer = await REQUESTS.get(request)?.(scene);
      t.equal(answer?.status, Number(status), `${where}: ${answer?.text}`);
      if (answer?.status === 201) t.match(answer.body, { ok: true }, where);
      if (answer?.status === 400) t.match(answer.body, { error: 'bad_request', reason: /.{10}/ });
      const after = { state: await scene.state(), records: scene.node.records() };
      if (next === undefined) t.same(after, before, `${where} changes nothing`);
      else t.equal(after.state, next, where);
      if (next === undefined) continue;
      await scene.close();
      scene = undefined;
    }
    await scene?.close();
  });
}
