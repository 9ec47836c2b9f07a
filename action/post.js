// Takes down the lab that main.js has made, or has begun to make.
'use strict';

const { main, run } = require('./runner.js');

main(async () => {
  const { STATE_lab: lab, STATE_name: name } = process.env;
  if (!lab || !name) {
    return; // none was begun
  }
  const { status, last } = await run(lab, ['down', name]);
  if (status !== 0 && status !== 2) { // 2: no lab can have that name
    throw new Error(`lab ${name} is still there: ${last}`);
  }
});
