'use strict';

// As a package runner does: starts the program with the environment and the descriptors that it has itself.

const { spawnSync } = require('node:child_process');

spawnSync(process.execPath, [require.resolve('./app.cjs')], { stdio: 'inherit' });
