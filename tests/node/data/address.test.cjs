'use strict';

// Who is at either end of a connection, for every kind of address.

const test = require('node:test');
const assert = require('node:assert/strict');
const crypto = require('node:crypto');
const fs = require('node:fs');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');
const { ask, exactTurns, refusal } = require('../support/index.cjs');
const { exchange, hold, release } = require('./fixtures/clients.cjs');
const { startRig } = require('./fixtures/rig.cjs');

const hasIpv6 = Object.values(os.networkInterfaces()).flat().some(({ address }) => address === '::1');
const onlyWithIpv6 = { skip: !hasIpv6 && 'this machine has no IPv6' };

function describeEnds(w, options) {
  const server = require('node:net').createServer((socket) => {
    const { remoteAddress, remotePort, remoteFamily, localAddress, localPort, localFamily } = socket;
    socket.end(JSON.stringify({
      remoteAddress, remotePort, remoteFamily, localAddress, localPort, localFamily,
      address: socket.address(), server: server.address(),
    }));
  });
  server.listen(options);
}

// Asks over a connection that stays open long enough to be compared with what the worker saw.
async function compare(where) {
  const socket = net.connect({ ...where, allowHalfOpen: true });
  const [data] = await new Promise((resolve, reject) => {
    socket.once('error', reject).once('data', (...values) => resolve(values));
  });
  const client = { port: socket.localPort, address: socket.localAddress, serverPort: socket.remotePort };
  socket.destroy();
  return { seen: JSON.parse(data), client };
}

test('IPv4: both ends and server.address() are right', async (t) => {
  const rig = await startRig(t, { serve: describeEnds, options: { port: 0, host: '127.0.0.1' } });
  for (let i = 0; i < 6; i++) {
    const { seen, client } = await compare({ port: rig.port, host: '127.0.0.1', localAddress: '127.0.0.2' });
    assert.deepEqual(seen, {
      remoteAddress: '127.0.0.2', remotePort: client.port, remoteFamily: 'IPv4',
      localAddress: '127.0.0.1', localPort: rig.port, localFamily: 'IPv4',
      address: { address: '127.0.0.1', family: 'IPv4', port: rig.port },
      server: { address: '127.0.0.1', family: 'IPv4', port: rig.port },
    });
  }
  assert.deepEqual(rig.address, { addressType: 4, address: '127.0.0.1', port: rig.port, fd: undefined });
});

test('IPv4 wildcard: the local address is the one that the client called', async (t) => {
  const rig = await startRig(t, { serve: describeEnds, options: { port: 0, host: '0.0.0.0' } });
  for (const host of ['127.0.0.1', '127.0.0.3']) {
    const { seen, client } = await compare({ port: rig.port, host });
    assert.equal(seen.localAddress, host);
    assert.equal(seen.remoteAddress, client.address);
    assert.equal(seen.remotePort, client.port);
    assert.deepEqual(seen.server, { address: '0.0.0.0', family: 'IPv4', port: rig.port });
  }
});

test('IPv6: both ends and server.address() are right', onlyWithIpv6, async (t) => {
  const rig = await startRig(t, { serve: describeEnds, options: { port: 0, host: '::1' } });
  for (let i = 0; i < 6; i++) {
    const { seen, client } = await compare({ port: rig.port, host: '::1' });
    assert.deepEqual(seen, {
      remoteAddress: '::1', remotePort: client.port, remoteFamily: 'IPv6',
      localAddress: '::1', localPort: rig.port, localFamily: 'IPv6',
      address: { address: '::1', family: 'IPv6', port: rig.port },
      server: { address: '::1', family: 'IPv6', port: rig.port },
    });
  }
  assert.equal(rig.address.addressType, 6);
});

test('dual stack: without a host both families reach the same workers', onlyWithIpv6, async (t) => {
  const rig = await startRig(t, { serve: describeEnds, options: { port: 0 } });
  for (const [host, expected] of [['127.0.0.1', '::ffff:127.0.0.1'], ['::1', '::1']]) {
    const { seen, client } = await compare({ port: rig.port, host });
    assert.equal(seen.remoteAddress, expected);
    assert.equal(seen.localAddress, expected);
    assert.equal(seen.remoteFamily, 'IPv6');
    assert.equal(seen.remotePort, client.port);
    assert.equal(seen.localPort, rig.port);
    assert.deepEqual(seen.server, { address: '::', family: 'IPv6', port: rig.port });
  }
});

test('ipv6Only: IPv4 is refused', onlyWithIpv6, async (t) => {
  const rig = await startRig(t, { serve: describeEnds, options: { port: 0, host: '::', ipv6Only: true } });
  assert.equal(await refusal({ port: rig.port, host: '127.0.0.1' }), 'ECONNREFUSED');
  const { seen } = await compare({ port: rig.port, host: '::1' });
  assert.equal(seen.remoteAddress, '::1');
});

test('several servers of one worker keep their connections apart', async (t) => {
  const rig = await startRig(t, {
    listeners: 3,
    serve(w) {
      const servers = [0, 1, 2].map((index) => {
        const server = require('node:net').createServer((socket) => {
          socket.end(JSON.stringify({ index, port: socket.localPort, own: server.address().port }));
        });
        return server.listen(0, '127.0.0.1');
      });
      w.ports = () => servers.map((server) => server.address().port);
    },
  });
  const ports = await rig.inWorker(1, (w) => w.ports());
  assert.equal(new Set(ports).size, 3);
  assert.deepEqual(await rig.inWorker(2, (w) => w.ports()), ports, 'the n-th port 0 is the same in every worker');
  const answers = await Promise.all(Array.from({ length: 60 }, (_, i) => ask(ports[i % 3])));
  for (const [i, answer] of answers.entries()) {
    assert.deepEqual(JSON.parse(answer), { index: i % 3, port: ports[i % 3], own: ports[i % 3] });
  }
});

test('unix sockets: large bodies both ways, server.address() and the file itself', async (t) => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'cluster-rs-data-'));
  t.after(() => fs.rmSync(directory, { recursive: true, force: true }));
  const file = path.join(directory, 'socket');
  const rig = await startRig(t, {
    workers: 3,
    options: { file },
    serve(w, options) {
      const server = require('node:net').createServer({ allowHalfOpen: true }, (socket) => {
        w.tell({ server: server.address(), remote: socket.remoteAddress, local: socket.localAddress });
        socket.pipe(socket);
      }).listen(options.file);
    },
  });
  assert.deepEqual(rig.address, { addressType: -1, address: file, port: -1, fd: undefined });
  const bodies = Array.from({ length: 12 }, (_, i) => crypto.randomBytes(400_000 + i));
  const answers = await Promise.all(bodies.map((body) => exchange({ path: file }, body)));
  for (const [i, body] of bodies.entries()) assert.equal(answers[i].equals(body), true);
  await rig.event('tell');
  for (const { server, remote, local } of rig.allTold()) {
    assert.equal(server, file);
    assert.equal(remote, undefined);
    assert.equal(local, undefined);
  }
  const busy = rig.events.filter((e) => e.event === 'tell').map((e) => e.id);
  assert.deepEqual([...new Set(busy)].sort(), [1, 2, 3]);
  await rig.finish();
  assert.equal(fs.existsSync(file), false, 'the file goes with the last worker');
});

test('unix sockets: a relative path longer than the kernel allows as an absolute one', async (t) => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), `cluster-rs-${'d'.repeat(90)}-`));
  t.after(() => fs.rmSync(directory, { recursive: true, force: true }));
  await startRig(t, {
    cwd: directory,
    serve(w) {
      require('node:net').createServer((socket) => socket.end(`${w.id}`)).listen('short');
    },
  });
  // The client has the same limit; a short name for the folder helps it.
  const link = path.join(os.tmpdir(), `cluster-rs-${process.pid}`);
  fs.symlinkSync(directory, link);
  t.after(() => fs.unlinkSync(link));
  const answers = [];
  for (let i = 0; i < 6; i++) answers.push(await ask(path.join(link, 'short')));
  assert.deepEqual([...new Set(answers)].sort(), ['1', '2']);
});

test('listen({ fd }) of a socket that the primary was given', async (t) => {
  const outside = net.createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => outside.once('listening', resolve));
  t.after(() => outside.close());
  const { port } = outside.address();
  await startRig(t, {
    stdio: [outside._handle.fd],
    options: { fd: 4 },
    serve(w, options) {
      const server = require('node:net').createServer((socket) => {
        socket.end(JSON.stringify({ id: w.id, server: server.address(), port: socket.localPort }));
      }).listen(options);
    },
  });
  await new Promise((resolve) => outside.close(resolve));
  const answers = [];
  for (let i = 0; i < 8; i++) answers.push(JSON.parse(await ask(port)));
  for (const answer of answers) {
    assert.equal(answer.port, port);
    assert.deepEqual(answer.server, { address: '127.0.0.1', family: 'IPv4', port });
  }
  assert.deepEqual([...new Set(answers.map(({ id }) => id))].sort(), [1, 2]);
});

test('every worker reports the address and serves it while connections are open', async (t) => {
  const rig = await startRig(t, {
    workers: 4,
    env: exactTurns(),
    serve(w) {
      require('node:net').createServer((socket) => socket.write(`${w.id}`)).listen(0, '127.0.0.1');
    },
  });
  const listening = rig.events.filter((e) => e.event === 'listening');
  assert.deepEqual(listening.map((e) => e.address.port), Array(4).fill(rig.port));
  const held = [];
  for (let i = 0; i < 8; i++) held.push(await hold({ port: rig.port }));
  assert.deepEqual(held.map((socket) => socket.greeting).sort(), ['1', '1', '2', '2', '3', '3', '4', '4']);
  await release(held);
});
