'use strict';

// Patches node:cluster without touching the program: node --require cluster-rs/register app.js. Workers are preloaded
// with it too. The cluster belongs to the process, so the threads that inherit this preload leave it alone.
// A worker's own preload finds its place in the environment and does not ask the module, which costs it less memory.
const isMain = process.env.CL_CHANNEL_FD === undefined ? require('node:worker_threads').isMainThread : !process.chdir.disabled;
if (isMain) require('./lib/patch.cjs');
