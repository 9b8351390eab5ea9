'use strict';
// The start: who listens where, and every way in which it can fail.

const test = require('node:test');
const assert = require('node:assert/strict');
const fs = require('node:fs');
const net = require('node:net');
const { constants } = require('node:os');
const path = require('node:path');
const { happens, ours, request } = require('../support/index.cjs');
const { cli } = require('./fixtures/run.cjs');
const { watchBinds } = require('../../../node-addon/lib/cli/binds.cjs');

/** A port that somebody has. */
async function taken(body) {
  const server = net.createServer().listen(0, '127.0.0.1');
  await happens(server, 'listening');
  try {
    return await body(server.address().port);
  } finally {
    server.close();
  }
}

test('one line for each address, once all listen there', ours, async () => {
  const run = await cli({
    args: ['-i', '3', 'app.js'], files: {
      'app.js': `
        const http = require('node:http');
        const answer = (request, response) => response.end(String(process.pid));
        http.createServer(answer).listen(0, '127.0.0.1');
        http.createServer(answer).listen('web.sock');
        http.createServer(answer).listen(0);`,
    },
  }, async (started) => {
    await started.wait(/listening on .*web\.sock \(.*\n/);
    await started.wait(/listening on \*:([0-9]+) \(.*\n/);
    const port = await started.port();
    const pids = new Set();
    while (pids.size < 3) pids.add((await request(port)).body);
    const socket = path.join(started.directory, 'web.sock');
    assert.ok(pids.has((await request(socket)).body));
    const listed = started.said('stdout').filter((line) => line.startsWith('listening'));
    assert.equal(listed.length, 3);
    for (const line of listed) {
      const found = /^listening on (\S+) \(primary: pid ([0-9]+); 3 workers: pids ([0-9 ]+)\)$/.exec(line);
      assert.equal(Number(found[2]), started.pid);
      assert.deepEqual(new Set(found[3].split(' ')), pids);
    }
    assert.equal(listed.filter((line) => line.includes(` ${socket} `)).length, 1);
    started.kill();
  });
  assert.equal(run.code, 0);
  assert.equal(run.stderr, '');
});

test('an address on which only some listen is told after the time for listening', ours, async () => {
  await cli({
    args: ['-i', '2', '--listen-timeout', '300ms', 'app.js'], files: {
      'app.js': `
        const net = require('node:net');
        net.createServer().listen(0, '127.0.0.1');
        if (process.env.NODE_APP_INSTANCE === '1') net.createServer().listen('extra.sock');`,
    },
  }, async (started) => {
    await started.wait(/listening on \S+extra\.sock \(primary: pid [0-9]+; 1 worker: pid [0-9]+\)/);
    await started.port();
    started.kill();
  });
});

test('UDP is named as such', ours, async () => {
  await cli({
    args: ['-i', '2', 'app.js'],
    files: { 'app.js': "require('node:dgram').createSocket('udp4').bind({ port: 0, address: '127.0.0.1' });" },
  }, async (started) => {
    await started.wait(/listening on udp 127\.0\.0\.1:[0-9]+ \(primary/);
    started.kill();
  });
});

test('a port that is taken is one line, and the end', ours, async () => {
  for (const handled of [false, true]) {
    await taken(async (port) => {
      // Many programs print a sentence of their own instead of the error.
      const files = handled ? {
        'server.js': `
          require('node:net').createServer().on('error', () => process.exit(3)).listen(${port}, '127.0.0.1');`,
      } : {};
      const run = await cli({ args: ['-i', '3', 'server.js'], files, env: { PORT: String(port) } });
      assert.deepEqual(run.said(), [`cannot listen on 127.0.0.1:${port}: it is taken (EADDRINUSE)`]);
      assert.equal(run.code, 1);
      // Nobody else's stack trace is printed once for each worker either.
      assert.doesNotMatch(run.stderr, /^\[[12]\]/m);
    });
  }
});

test('other reasons for having no address are told as well', ours, async () => {
  const app = (where) => ({ 'app.js': `require('node:net').createServer().listen(${JSON.stringify(where)});` });
  for (const [where, line] of [
    [{ port: 0, host: '192.0.2.1' },
      /^cannot listen on 192\.0\.2\.1:0: this machine has no such address \(EADDRNOTAVAIL\)$/],
    [{ path: '/dev/null/x.sock' }, /^cannot listen on \/dev\/null\/x\.sock: \/dev\/null is not a directory \(E[A-Z]+\)$/],
    [{ path: '/nonexistent/x.sock' }, /^cannot listen on \/nonexistent\/x\.sock: the directory \/nonexistent is not there; make it first \(/],
  ]) {
    const run = await cli({ args: ['-i', '2', 'app.js'], files: app(where) });
    assert.equal(run.said().length, 1, run.stderr);
    assert.match(run.said()[0], line);
    assert.equal(run.code, 1);
  }
});

test('a privileged port is told with what to do', ours, () => {
  const failed = [];
  const stage = watchBinds((error) => failed.push(error.text));
  stage.hears({ act: 'queryServer', seq: 1, addressType: 4, address: '127.0.0.1', port: 1 });
  stage.says({ ack: 1, errno: -constants.errno.EACCES });
  const low = /^[0-9]+$/.exec(fs.readFileSync('/proc/sys/net/ipv4/ip_unprivileged_port_start', 'utf8').trim())[0];
  const line = low > 1 ? /^cannot listen on 127\.0\.0\.1:1: ports below [0-9]+ need a privilege; listen on a higher one, .* \(EACCES\)$/ :
    /permission denied \(EACCES\)$/;
  assert.match(failed[0], line);
});

test('a worker that lives on though its port is taken: the warning says why it does not listen', ours, async () => {
  await taken(async (port) => {
    const run = await cli({
      args: ['-i', '2', '--listen-timeout', '3s', 'app.js'], files: {
        'app.js': `
          const server = require('node:net').createServer().listen(${port}, '127.0.0.1');
          server.on('error', () => setInterval(() => {}, 1000));`,
      },
    }, async (started) => {
      const line = /after 3 s \(cannot listen on 127\.0\.0\.1:[0-9]+: it is taken \(EADDRINUSE\)\)\n/;
      await started.wait(line, { on: 'stderr' });
      started.kill();
    });
    assert.equal(run.code, 0);
  });
});

test('a syntax error does not go on for ever: three starts, a line, the worker\'s code', ours, async () => {
  const run = await cli({ args: ['-i', '3', 'bad.js'], files: { 'bad.js': 'this is no JavaScript(' } });
  assert.equal(run.code, 1);
  assert.equal(run.stderr.match(/SyntaxError/g).length, 3);
  assert.equal(run.said().length, 3);
  const ended = 'worker 0 \\(pid [0-9]+\\) exited with code 1 before it listened';
  assert.match(run.said()[0], new RegExp(`^${ended}; the next starts in [0-9]+ ms$`));
  assert.match(run.said()[2], new RegExp(`^bad\\.js does not start: ${ended}, as 2 before it$`));
});

test('what ends a start that fails again and again becomes the exit code', ours, async () => {
  const command = (line) => ['sh', '-c', 'ulimit -c 0; exec "$@"', 'sh', ...line];
  for (const [code, text] of [
    [42, 'process.exit(42);'], [128 + 6, 'process.abort();'], [128 + 9, "process.kill(process.pid, 'SIGKILL');"],
  ]) {
    const run = await cli({ args: ['-i', '2', 'bad.js'], files: { 'bad.js': text }, command });
    assert.equal(run.code, code);
    assert.match(run.said().at(-1), /^bad\.js does not start: worker 0 /);
  }
});

test('a start that fails at times succeeds in the end', ours, async () => {
  const run = await cli({
    args: ['-i', '2', 'app.js'], files: {
      'app.js': `
        const fs = require('node:fs');
        fs.appendFileSync('starts', 'x');
        if (fs.readFileSync('starts', 'utf8').length < 3) process.exit(1);
        require('./server.js');`,
    },
  }, async (started) => {
    await started.port();
    started.kill();
  });
  assert.equal(run.code, 0);
  assert.equal(run.said().length, 2);
});

test('a script that ends well without listening is told so, once, and its code is 0', ours, async () => {
  const files = { 'app.js': 'console.log(process.env.NODE_APP_INSTANCE);' };
  const run = await cli({ args: ['-i', '3', 'app.js'], files });
  assert.equal(run.code, 0);
  assert.deepEqual(run.said(), ['app.js ended without having listened: cluster-rs is for programs that listen']);
  assert.deepEqual(run.stdout.split('\n').filter((line) => line.startsWith('[')).sort(), ['[0] 0', '[1] 1', '[2] 2']);
});

test('an address that is found only after a while is waited for', ours, async () => {
  // Nothing but the question to the primary keeps such a worker alive.
  for (let i = 0; i < 3; i++) {
    await cli({
      args: ['-i', '3', 'app.js'],
      files: { 'app.js': "setTimeout(() => require('node:net').createServer().listen(0, '127.0.0.1'), 20);" },
    }, async (started) => {
      await started.port();
      started.kill();
    });
  }
});

test('a script that runs but does not listen is warned about once, and goes on', ours, async () => {
  const run = await cli({
    args: ['-i', '2', '--listen-timeout', '1300ms', 'app.js'], files: {
      'app.js': "setInterval(() => console.log('alive'), 100); setTimeout(() => require('./server.js'), 3000);",
    },
  }, async (started) => {
    await started.wait(/do not listen after 1\.3 s/, { on: 'stderr' });
    await started.port();
    started.kill();
  });
  assert.equal(run.said().length, 1);
  assert.match(run.said()[0], /^workers 0 1 of app\.js run but do not listen after 1\.3 s \(cluster-rs shares what /);
  assert.equal(run.code, 0);
});

test('without its native part it says so in one line', ours, async () => {
  const run = await cli({ args: ['server.js'], env: { CLUSTER_RS_ADDON: '/nonexistent.node' } });
  assert.equal(run.code, 1);
  assert.equal(run.stderr.split('\n').length, 2);
  assert.match(run.stderr, /^cluster-rs: .*nonexistent\.node/);
});

test('in what was started as a worker and is none it starts nobody, and says why', ours, async () => {
  const run = await cli({ args: ['-i', '2', 'server.js'], env: { CL_WORKER_ID: '7' } });
  assert.equal(run.code, 1);
  assert.equal(run.said().length, 1);
  assert.match(run.said()[0], /^this process was started as a worker, but CL_WORKER_ID.*may start no workers/);
  assert.equal(run.stdout, '');
});
