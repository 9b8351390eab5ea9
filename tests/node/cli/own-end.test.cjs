'use strict';
// A program with a handler of its own for the signal of a stop ends as it would under plain node: it gets that signal, once and at
// once, with its servers still open.

const test = require('node:test');
const assert = require('node:assert/strict');
const { happens, ours, request, until } = require('../support/index.cjs');
const { begin, cli } = require('./fixtures/run.cjs');

// A server, something that keeps the process running, and a list of what has happened.
const HEAD = `
  const http = require('node:http');
  const server = http.createServer((request, response) => response.end('ok')).listen(0, '127.0.0.1');
  const pool = setInterval(() => {}, 1000);
  const done = () => { clearInterval(pool); console.log('done'); };
  const begin = (signal) => console.log('begins', signal);
`;
const closed = "new Promise((yes, no) => server.close((error) => error ? no(error) : yes()))";

const PATTERNS = {
  'close, then the pool, then exit': (signal) => `process.on('${signal}', async (name) => {
    begin(name); await ${closed}; done(); process.exit(0); });`,
  'close with an error that is one, and nothing left to do': (signal) => `process.on('${signal}', (name) => {
    begin(name); server.close((error) => { if (error) process.exit(1); done(); }); });`,
  'asyncDispose': (signal) => `process.on('${signal}', async (name) => {
    begin(name); await server[Symbol.asyncDispose](); done(); process.exit(0); });`,
  'once': (signal) => `process.once('${signal}', async (name) => {
    begin(name); server.close(); await new Promise((go) => setTimeout(go, 700)); done(); process.exit(0); });`,
  'a second signal forces the exit': (signal) => `let count = 0; process.on('${signal}', async (name) => {
    if (count++ > 0) { console.log('forced'); process.exit(1); }
    begin(name); server.close(); await new Promise((go) => setTimeout(go, 700)); done(); process.exit(0); });`,
  'the signal once more, to itself': (signal) => `process.on('${signal}', async function last(name) {
    begin(name); await ${closed}; done(); process.removeListener(name, last); process.kill(process.pid, name); });`,
  'the signal once more, to itself, with another listener for it': (signal) => `
    process.on('${signal}', async function last(name) {
      begin(name); await ${closed}; process.removeListener(name, last); process.kill(process.pid, name); });
    let seen = 0;
    process.on('${signal}', () => { if (++seen === 2) { done(); process.exit(0); } });`,
};

const count = (run, text) => run.stdout.split('\n').filter((line) => /^\[[01]\] /.test(line) && line.slice(4) === text).length;

for (const [name, pattern] of Object.entries(PATTERNS)) {
  for (const signal of ['SIGTERM', 'SIGINT']) {
    test(`${signal}: ${name}`, ours, async () => {
      for (const isForAll of [false, true]) {
        const run = await cli({ args: ['-i', '2', 'app.js'], files: { 'app.js': HEAD + pattern(signal) } }, async (started) => {
          await started.port();
          await started.wait(/2 workers: pids/);
          const asked = performance.now();
          started.kill(signal, isForAll ? -started.pid : started.pid);
          await started.wait(new RegExp(`begins ${signal}`), { count: 2 });
          assert.ok(performance.now() - asked < 3000, 'at once');
        });
        assert.equal(run.stderr, '');
        assert.equal(count(run, `begins ${signal}`), 2);
        assert.equal(count(run, 'done'), 2);
        assert.equal(run.code, 0);
      }
    });
  }
}

test('workers that are signalled a moment before the primary, and end at once, are not replaced', ours, async () => {
  for (const code of [0, 3]) {
    const text = `${HEAD} process.on('SIGTERM', () => process.exit(${code}));`;
    const run = await cli({ args: ['-i', '2', 'app.js'], files: { 'app.js': text } }, async (started) => {
      await started.port();
      const [, pids] = await started.wait(/2 workers: pids ([0-9 ]+)\)/);
      for (const pid of pids.split(' ')) started.kill('SIGTERM', Number(pid));
      await new Promise((go) => { setTimeout(go, 50); });
      started.kill();
    });
    assert.equal(run.stderr, '');
    assert.equal(run.code, code);
  }
});

test('a script that handles SIGTERM only gets it after its last request when SIGINT comes', ours, async () => {
  const text = `require('./server.js');
    setInterval(() => {}, 1000);
    process.on('SIGTERM', () => {
      console.log('begins');
      setTimeout(() => { console.log('done'); process.exit(0); }, 500);
    });`;
  const run = await cli({ args: ['-i', '1', 'app.js'], files: { 'app.js': text } }, async (started) => {
    const [answer] = await begin(started, await started.port());
    started.kill('SIGINT', -started.pid);
    await started.wait(/stopping 1 worker/);
    started.write('release', '');
    assert.match((await answer).body, /^held by/);
  });
  assert.equal(count(run, 'done'), 1);
  assert.equal(run.code, 0);
});

test('hooks of signal-exit are no handler: requests are finished first', ours, async () => {
  // What signal-exit does, in its own words.
  const text = `require('./server.js');
    const emitter = globalThis[Symbol.for('signal-exit emitter')] = { count: 1 };
    process.on('SIGTERM', function hook(signal) {
      if (process.listeners(signal).length !== emitter.count) return;
      console.log('hook');
      process.removeListener(signal, hook);
      process.kill(process.pid, signal);
    });
    setInterval(() => {}, 1000);`;
  const run = await cli({ args: ['-i', '1', 'app.js'], files: { 'app.js': text } }, async (started) => {
    const [answer] = await begin(started, await started.port());
    started.kill();
    await started.wait(/stopping 1 worker/);
    started.write('release', '');
    assert.match((await answer).body, /^held by/);
  });
  assert.equal(count(run, 'hook'), 1);
  assert.equal(run.code, 0);
});

for (const [handled, expected] of [[['SIGTERM'], 'SIGTERM'], [['SIGINT'], 'SIGINT'], [['SIGINT', 'SIGTERM'], 'SIGTERM']]) {
  test(`a reload sends ${expected} where ${handled.join(' and ')} has a handler`, ours, async () => {
    const text = HEAD + handled.map(PATTERNS['close, then the pool, then exit']).join('\n');
    const run = await cli({ args: ['-i', '2', 'app.js'], files: { 'app.js': text } }, async (started) => {
      const port = await started.port();
      await started.wait(/2 workers: pids/);
      started.kill('SIGHUP');
      await started.wait(/reload: done/);
      await until(() => count(started, 'done') === 2, 'the end of both old scripts');
      assert.equal(count(started, `begins ${expected}`), 2);
      assert.equal((await request(port)).status, 200);
      started.kill(expected);
    });
    assert.equal(count(run, `begins ${expected}`), 4);
    assert.equal(count(run, 'done'), 4);
    assert.equal(run.stderr, '');
    assert.equal(run.code, 0);
  });
}

test('a reload says which script failed to end itself', ours, async () => {
  const text = `${HEAD} process.on('SIGTERM', () => process.exit(7));`;
  const run = await cli({ args: ['-i', '1', 'app.js'], files: { 'app.js': text } }, async (started) => {
    await started.port();
    started.kill('SIGHUP');
    await started.wait(/when it was replaced/, { on: 'stderr' });
    started.kill('SIGINT');
  });
  assert.equal(run.said().length, 1);
  assert.match(run.said()[0], /^worker 0 \(pid [0-9]+\) exited with code 7 when it was replaced$/);
});

test('no new connection comes, and those that there are stay as they are', ours, async () => {
  const text = `${HEAD} process.on('SIGTERM', (name) => {
    begin(name);
    setTimeout(() => { console.log('listening', server.listening, 'connected', process.connected); process.exit(0); }, 1500);
  });`;
  const run = await cli({ args: ['-i', '2', 'app.js'], files: { 'app.js': text } }, async (started) => {
    const port = await started.port();
    const agent = new (require('node:http').Agent)({ keepAlive: true, maxSockets: 1 });
    assert.equal((await request(port, { agent })).status, 200);
    await started.wait(/2 workers: pids/);
    started.kill();
    await started.wait(/begins SIGTERM/, { count: 2 });
    await until(async () => await request(port, { agent: false }).then(() => null, ({ code }) => code) === 'ECONNREFUSED', 'a closed door');
    const { headers } = await request(port, { agent });
    assert.equal(headers.connection, 'keep-alive');
    agent.destroy();
  });
  assert.equal(count(run, 'listening true connected true'), 2);
  assert.equal(run.code, 0);
});

for (const [what, text, code] of [
  ['an exit code', 'process.exit(3)', 3],
  ['an exit code of 255', 'process.exit(255)', 255],
  ['a rejection that nobody handles', "Promise.reject(new Error('lost'))", 1],
  ['the shell\'s word for the signal is none', 'process.exit(143)', 0],
]) {
  test(`the exit code tells how a script's own end went: ${what}`, ours, async () => {
    for (const isForAll of [false, true]) {
      const run = await cli({
        args: ['-i', '2', 'app.js'], files: { 'app.js': `${HEAD} process.on('SIGTERM', () => { ${text}; });` },
      }, async (started) => {
        await started.port();
        await started.wait(/2 workers: pids/);
        started.kill('SIGTERM', isForAll ? -started.pid : started.pid);
      });
      assert.equal(run.code, code);
    }
  });
}

test('a script has the rest of the deadline, and its signal not twice', ours, async () => {
  const text = `${HEAD} process.on('SIGTERM', (name) => {
    begin(name);
    if (process.env.NODE_APP_INSTANCE === '0') setTimeout(() => { done(); process.exit(0); }, 1200); });`;
  const run = await cli({ args: ['-i', '2', '--stop-deadline', '2', 'app.js'], files: { 'app.js': text } }, async (started) => {
    await started.port();
    await started.wait(/2 workers: pids/);
    started.kill();
  });
  assert.equal(count(run, 'begins SIGTERM'), 2);
  assert.equal(count(run, 'done'), 1);
  assert.deepEqual(run.said().map((line) => line.replace(/[0-9]{2,}/, 'N')), [
    'worker 1 (pid N) did not finish within 2 s: SIGKILL in 2 s', 'worker 1 (pid N) does not go: SIGKILL']);
  assert.equal(run.code, 137);
});

test('a second signal reaches the script as well, alone and with the group', ours, async () => {
  const text = `${HEAD} let count = 0; process.on('SIGTERM', (name) => {
    if (count++ > 0) { console.log('forced'); process.exit(5); } begin(name); });`;
  for (const isForAll of [false, true]) {
    const run = await cli({ args: ['-i', '2', 'app.js'], files: { 'app.js': text } }, async (started) => {
      await started.port();
      await started.wait(/2 workers: pids/);
      const kill = () => started.kill('SIGTERM', isForAll ? -started.pid : started.pid);
      kill();
      await started.wait(/begins SIGTERM/, { count: 2 });
      await new Promise((go) => { setTimeout(go, 800); });
      assert.equal(count(started, 'forced'), 0);
      kill();
    });
    assert.equal(count(run, 'begins SIGTERM'), 2);
    assert.equal(count(run, 'forced'), 2);
    assert.equal(run.code, 5);
  }
});

test('a second signal that a script does not handle ends it', ours, async () => {
  const text = `${HEAD} process.once('SIGTERM', begin);`;
  for (const second of ['SIGTERM', 'SIGINT']) {
    const run = await cli({ args: ['-i', '1', 'app.js'], files: { 'app.js': text } }, async (started) => {
      await started.port();
      started.kill();
      await started.wait(/begins SIGTERM/);
      await new Promise((go) => { setTimeout(go, 800); });
      started.kill(second);
    });
    assert.equal(run.code, second === 'SIGTERM' ? 143 : 130);
    assert.match(run.said()[0], new RegExp(`is hurried: ${second}$`));
  }
});

test('a stream of events ends when the script ends it', ours, async () => {
  const text = `
    const streams = new Set();
    const server = require('node:http').createServer((request, response) => {
      response.writeHead(200, { 'Content-Type': 'text/event-stream' }).write('data: hello\\n\\n');
      streams.add(response);
      console.log('streaming');
    }).listen(0, '127.0.0.1');
    process.on('SIGTERM', () => {
      for (const stream of streams) stream.end('event: bye\\n\\n');
      server.close(() => process.exit(0));
    });`;
  let answer;
  const run = await cli({ args: ['-i', '1', 'app.js'], files: { 'app.js': text } }, async (started) => {
    answer = request(await started.port());
    await started.wait(/\] streaming/);
    started.kill();
    await happens(started.process, 'exit');
  });
  assert.equal((await answer).body, 'data: hello\n\nevent: bye\n\n');
  assert.equal(run.code, 0);
});

// While one listens, a signal to the whole group is the script's; afterwards it waits for the last request again.
const WITHOUT_HANDLER = {
  'a handler that was taken away': `const ignore = () => {};
    for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, ignore).removeListener(signal, ignore);`,
  'all handlers taken away': "for (const signal of ['SIGTERM', 'SIGINT']) process.removeAllListeners(signal);",
  'a hook of signal-exit': `const emitter = globalThis[Symbol.for('signal-exit emitter')] = { count: 1 };
    for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, function hook() {
      if (process.listeners(signal).length !== emitter.count) return;
      console.log('hook');
      process.removeListener(signal, hook);
      emitter.count = 0;
      process.kill(process.pid, signal);
    });
    setInterval(() => {}, 1000);`,
};

for (const [what, text] of Object.entries(WITHOUT_HANDLER)) {
  test(`a signal to the group and ${what}: requests are finished first`, ours, async () => {
    for (const signal of ['SIGTERM', 'SIGINT']) {
      const files = { 'app.js': `require('./server.js'); ${text}` };
      const run = await cli({ args: ['-i', '1', 'app.js'], files }, async (started) => {
        const [answer] = await begin(started, await started.port());
        started.kill(signal, -started.pid);
        await started.wait(/stopping 1 worker/);
        started.write('release', '');
        assert.match((await answer).body, /^held by/);
      });
      assert.equal(count(run, 'hook'), what.startsWith('a hook') ? 1 : 0);
      assert.equal(run.stderr, '');
      assert.equal(run.code, 0);
    }
  });
}

test('a signal to the group that comes when the worker has just finished is no other', ours, async () => {
  const text = `require('./server.js');
    setInterval(() => {}, 1000);
    process.on('disconnect', () => process.kill(process.pid, 'SIGINT'));
    process.on('SIGTERM', () => { console.log('done'); process.exit(0); });`;
  const run = await cli({ args: ['-i', '1', 'app.js'], files: { 'app.js': text } }, async (started) => {
    await started.port();
    started.kill('SIGINT');
  });
  assert.equal(count(run, 'done'), 1);
  assert.equal(run.code, 0);
});
