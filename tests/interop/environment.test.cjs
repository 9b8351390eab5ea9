'use strict';
// Who becomes a worker, and what its programs see: environment, descriptors, the processes and threads it starts.

const test = require('node:test');
const assert = require('node:assert/strict');
const { spawn } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const {
  REGISTER, ask, childrenOf, deadline, environment, greeting, inTurns, receive, until, withPrimary,
} = require('./support.cjs');

const ADDRESS = '127.0.0.1:0';

// What a script sees of its place.
const LOOK = `
  // The mechanism is the test's own choice.
  const names = Object.keys(process.env).filter((name) => /^(CL_(?!MECHANISM)|NODE_|CLUSTER_)/.test(name));
  const fds = require('node:fs').readdirSync('/proc/self/fd').length;`;

const SERVER = `
  const cluster = require('node:cluster');
  const { worker } = cluster;
  const server = require('node:net').createServer((socket) => {
    socket.end(\`node \${worker.id} \${worker.slot} \${process.pid}\\n\`);
    socket.resume();
  });
  const tell = (value) => worker.send(JSON.stringify(value));`;

test('a Node worker is one in every respect, and its environment is clean', async () => {
  await withPrimary({ env: { KEPT: 'as it was' } }, async (primary) => {
    const { id, pid } = await primary.startNode(`${LOOK} ${SERVER}
      server.listen(0, '127.0.0.1', () => setImmediate(() => tell({
        isPrimary: cluster.isPrimary, isMaster: cluster.isMaster, isWorker: cluster.isWorker,
        id: worker.id, slot: worker.slot, state: worker.state, connected: worker.isConnected(), dead: worker.isDead(),
        same: worker.process === process, kept: process.env.KEPT, names,
        once: require(${JSON.stringify(path.dirname(REGISTER))}) === cluster,
      })));`);
    assert.deepEqual(JSON.parse(await primary.message(id)), {
      isPrimary: false, isMaster: false, isWorker: true, id, slot: 0, state: 'listening', connected: true, dead: false,
      same: true, kept: 'as it was', names: [], once: true,
    });
    assert.ok(fs.readFileSync(`/proc/${pid}/environ`, 'utf8').includes('CL_CHANNEL_FD='), 'that is how it was started');
  });
});

test('modules too, and with the preload in NODE_OPTIONS', async () => {
  for (const options of [`--require ${REGISTER}`, `--import ${REGISTER.replace(/cjs$/, 'mjs')}`]) {
    await withPrimary({ env: { NODE_OPTIONS: options } }, async (primary) => {
      const file = `${primary.directory}/server.mjs`;
      fs.writeFileSync(file, `
        import cluster, { isWorker } from 'node:cluster';
        import net from 'node:net';
        const { worker } = cluster;
        const server = net.createServer((socket) => {
          socket.end(\`node \${worker.id} \${worker.slot} \${process.pid}\\n\`);
          socket.resume();
        });
        server.listen(0, '127.0.0.1', () => worker.send(String(isWorker)));`);
      const node = await primary.start([process.execPath, file]);
      const { port } = await primary.next('listening', node.id);
      assert.equal(String(await primary.message(node.id)), 'true');
      const c = await primary.spawn('c', ADDRESS);
      await inTurns(port, [node.id, c.id], 4);
    });
  }
});

test('what a Node worker starts is no worker: programs, forks, threads', async () => {
  await withPrimary({}, async (primary) => {
    const { id } = await primary.startNode(`${SERVER}
      const { execFileSync, fork } = require('node:child_process');
      const { Worker } = require('node:worker_threads');
      const look = ${JSON.stringify(`${LOOK}
        const cluster = require('node:cluster');
        const found = { names, isPrimary: cluster.isPrimary };`)};
      const here = __dirname;
      require('node:fs').writeFileSync(here + '/forked.cjs', look + 'process.send(found);');
      server.listen(0, '127.0.0.1', () => {
        const preload = ['--require', ${JSON.stringify(REGISTER)}];
        const program = execFileSync(process.execPath, [...preload, '-e', look + 'console.log(JSON.stringify(found))']);
        tell(JSON.parse(program));
        const bare = execFileSync('ls', ['-l', '/proc/self/fd'], { encoding: 'utf8' });
        tell(bare.match(/socket:|pidfd/g) ?? []);
        fork(here + '/forked.cjs', { execArgv: preload }).on('message', ({ names, isPrimary }) => {
          tell({ names: names.filter((name) => name.startsWith('CL_')), isPrimary });
          const say = "require('node:worker_threads').parentPort.postMessage(found)";
          const thread = new Worker(look + say, { eval: true });
          thread.on('message', tell);
          thread.on('error', ({ message }) => tell({ message }));
        });
      });`);
    const plain = { names: [], isPrimary: true };
    assert.deepEqual(JSON.parse(await primary.message(id, 0)), plain, 'a program');
    // execFileSync gives it pipes, which are socket pairs: these two are not ours.
    assert.ok(JSON.parse(await primary.message(id, 1)).length <= 3, 'the descriptors of a program');
    assert.deepEqual(JSON.parse(await primary.message(id, 2)), plain, 'a fork');
    assert.deepEqual(JSON.parse(await primary.message(id, 3)).names, [], 'a thread');
  });
});

// A plain Node process with the given descriptor 3; what it says of itself.
async function plainProcess(env, third, script) {
  const child = spawn(process.execPath, ['--require', REGISTER, '-e', script], {
    env: environment(env),
    stdio: ['ignore', 'pipe', 'inherit', third],
  });
  const text = receive(child.stdout);
  const [code] = await deadline(new Promise((resolve) => child.once('exit', (...how) => resolve(how))), 'its end');
  assert.equal(code, 0);
  return { child, said: JSON.parse(await text) };
}

const STALE = { CL_WORKER_ID: '3', CL_WORKER_SLOT: '2', CL_CHANNEL_FD: '3' };
const SAY = `${LOOK}
  const cluster = require('node:cluster');
  const server = require('node:net').createServer().listen(0, '127.0.0.1', () => {
    const own = require('node:fs').readFileSync('/proc/net/tcp', 'utf8').includes(
      server.address().port.toString(16).toUpperCase().padStart(4, '0') + ' 00000000:0000 0A');
    console.log(JSON.stringify({ isPrimary: cluster.isPrimary, worker: cluster.worker, names, own, more }));
    server.close();
  });`;

test('a stale environment that names a file: a plain process, and the file is as it was', async () => {
  const file = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'cluster-interop-')), 'file');
  fs.writeFileSync(file, 'as it was');
  const fd = fs.openSync(file, 'r+');
  const { said } = await plainProcess(STALE, fd, `const more = require('node:fs').readFileSync(3, 'utf8'); ${SAY}`);
  assert.deepEqual(said, { isPrimary: true, names: [], own: true, more: 'as it was' });
  fs.closeSync(fd);
  fs.rmSync(path.dirname(file), { recursive: true });
});

test('a stale environment that names a socket: a plain process, and what waits in the socket is there', async () => {
  const script = `
    const socket = new (require('node:net').Socket)({ fd: 3 });
    let more = '';
    socket.on('data', (data) => {
      more += data;
      if (!more.endsWith('.')) return;
      socket.end('answer');
      ${SAY}
    });`;
  const child = spawn(process.execPath, ['--require', REGISTER, '-e', script], {
    env: environment(STALE), stdio: ['ignore', 'pipe', 'inherit', 'pipe'],
  });
  const answer = receive(child.stdio[3]);
  child.stdio[3].write('libclust, and more.');
  assert.deepEqual(JSON.parse(await receive(child.stdout)), {
    isPrimary: true, names: [], own: true, more: 'libclust, and more.',
  });
  assert.equal(await answer, 'answer');
});

test('an environment of nonsense, or of a descriptor that nobody opened: a plain process', async () => {
  const nonsense = [
    { ...STALE, CL_CHANNEL_FD: '97' }, { ...STALE, CL_CHANNEL_FD: '-1' }, { ...STALE, CL_CHANNEL_FD: 'x' },
    { ...STALE, CL_CHANNEL_FD: '1e1' }, { ...STALE, CL_CHANNEL_FD: '9'.repeat(20) }, { ...STALE, CL_WORKER_ID: '' },
    { CL_CHANNEL_FD: '3' }, { CL_WORKER_ID: '1' }, { ...STALE, CL_WORKER_SLOT: '4294967296' },
  ];
  for (const env of nonsense) {
    const { said } = await plainProcess(env, 'ignore', `const more = null; ${SAY}`);
    assert.deepEqual(said, { isPrimary: true, names: [], own: true, more: null }, JSON.stringify(env));
  }
});

test('a program that its shell starts is the worker; of two, the one that listens', async () => {
  await withPrimary({}, async (primary) => {
    const node = `'${process.execPath}' --require '${REGISTER}'`;
    const file = `${primary.directory}/server.cjs`;
    fs.writeFileSync(file, `${SERVER} server.listen(0, '127.0.0.1');`);
    // The first only looks; it must not take the place of the second.
    const commands = `${node} -e 'require("node:net")'; ${node} '${file}'; true`;
    const { id, pid } = await primary.start(['/bin/sh', '-c', commands]);
    const { port } = await primary.next('listening', id);
    const answered = greeting(await ask(port));
    assert.deepEqual([answered.id, answered.slot], [id, 0]);
    assert.deepEqual(childrenOf(pid), [answered.pid]);
    const c = await primary.spawn('c', ADDRESS);
    assert.equal(c.port, port);
    await inTurns(port, [id, c.id], 20);
    await until(async () => (await primary.info(id)).state === 3, 'a worker that listens');
  });
});
