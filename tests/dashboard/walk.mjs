// Walks through the dashboard in headless Chromium, as somebody would who has to mend something.
//
//   node walk.mjs URL FOLDER    FOLDER takes the screenshots; tokens and the event's id come from the environment
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import assert from 'node:assert/strict';

const [url, folder] = process.argv.slice(2);
const { READ_TOKEN, WRITE_TOKEN, EVENT, MODULES } = process.env;
const require = createRequire(`${MODULES}/`);
const { chromium } = require('playwright-core');
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync'],
});

let passed = 0;
let failed = 0;
async function check(name, options, walk) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  const complaints = [];
  // What the content security policy forbids is told here, too.
  page.on('console', (message) => { if (message.type() === 'error') complaints.push(message.text()); });
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('request', (request) => { if (!request.url().startsWith(url)) complaints.push(`asked for ${request.url()}`); });
  page.on('dialog', (dialog) => { complaints.push(`a dialog: ${dialog.message()}`); dialog.dismiss(); });
  try {
    await walk(page, complaints);
    assert.deepEqual(complaints, []);
    passed += 1;
    console.log(`PASS ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL ${name}\n${error.stack}`);
    await page.screenshot({ path: `${folder}/failed-${failed}.png`, fullPage: true }).catch(() => {});
  }
  await context.close();
}

async function logIn(page, token) {
  await page.goto(`${url}/`);
  await page.getByLabel('Token').fill(token);
  await page.getByRole('button', { name: 'Log in' }).click();
  await page.getByRole('heading', { name: 'Overview' }).waitFor();
}

// The rules of WCAG 2.2, levels A and AA, contrast among them. By the debugger, because the page's own policy lets no
// other script in.
async function accessible(page, what) {
  const session = await page.context().newCDPSession(page);
  const run = async (expression) => {
    const { result, exceptionDetails } = await session.send('Runtime.evaluate', { expression, awaitPromise: true, returnByValue: true });
    assert.ok(!exceptionDetails, JSON.stringify(exceptionDetails));
    return result.value;
  };
  await run(`${axe}; null`);
  const tags = "['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']";
  const found = await run(`axe.run(document, { runOnly: { type: 'tag', values: ${tags} } }).then((result) => ({
    broken: result.violations.map((rule) => rule.id + ': ' + rule.nodes.map((node) => node.html).slice(0, 3).join(' | ')),
    kept: result.passes.length,
  }))`);
  assert.deepEqual(found.broken, [], what);
  assert.ok(found.kept > 10, `axe has looked at ${what}`);
  await session.detach();
}

const pages = (event) => [['/', 'overview'], ['/?window=6%20h', 'six-hours'], ['/outbox?state=sent', 'outbox'],
  ['/inbox?state=dead', 'inbox'], [`/events/${event}`, 'event'], ['/work', 'leases'], ['/topology', 'topology']];

await check('a wrong token is not let in, and the form says so', {}, async (page, complaints) => {
  await page.goto(`${url}/inbox?state=dead`);
  await page.getByLabel('Token').fill('a wrong token');
  await page.getByRole('button', { name: 'Log in' }).click();
  await page.getByRole('alert').waitFor();
  await accessible(page, 'the refused log-in');
  // The browser complains of the status 401, as it should.
  assert.equal(complaints.splice(0).length, 1);
  await page.getByLabel('Token').fill(READ_TOKEN);
  await page.getByRole('button', { name: 'Log in' }).click();
  await page.getByRole('heading', { name: 'Inbox' }).waitFor();
  assert.match(page.url(), /\/inbox\?state=dead$/, 'it leads to where one wanted to go');
  assert.equal(await page.getByRole('button', { name: /Discard/ }).count(), 0, 'a reader has nothing to change with');
});

for (const colorScheme of ['light', 'dark']) {
  await check(`every page is accessible in ${colorScheme} colours`, { colorScheme }, async (page) => {
    await logIn(page, WRITE_TOKEN);
    for (const [path, name] of pages(EVENT)) {
      await page.goto(url + path);
      await page.screenshot({ path: `${folder}/${name}-${colorScheme}.png`, fullPage: true });
      await accessible(page, name);
    }
  });
}

await check('charts have data, and say it as a table too', {}, async (page) => {
  await logIn(page, READ_TOKEN);
  await page.getByRole('link', { name: '6 h' }).click();
  for (const table of ['outbox', 'inbox']) {
    const chart = page.locator(`svg[data-chart=${table}]`);
    assert.ok(Number(await chart.getAttribute('data-total')) > 1000, `${table} has thousands`);
    assert.ok(await chart.locator('rect.bar').count() > 20, `${table} has bars`);
    const heights = await chart.locator('rect.bar').evaluateAll((bars) => bars.map((bar) => bar.getBBox().height));
    assert.ok(Math.max(...heights) > 60 && Math.min(...heights) < 60, `${table}: ${heights}`);
  }
  assert.ok(await page.locator('svg path.line[d*=L]').count() >= 4, 'waits are drawn as lines');
  await page.getByText('As a table').first().click();
  await page.getByRole('columnheader', { name: 'Events' }).first().waitFor();
});

await check('numbers come anew by themselves until they are paused', {}, async (page) => {
  await logIn(page, READ_TOKEN);
  const before = await page.locator('#read-at time').getAttribute('datetime');
  await page.waitForFunction((before) => document.querySelector('#read-at time').getAttribute('datetime') !== before, before, { timeout: 20000 });
  const pause = page.getByRole('button', { name: 'Pause live updates' });
  await pause.click();
  await page.getByRole('button', { name: 'Resume live updates', pressed: true }).waitFor();
});

await check('one event is requeued with a reason, by the keyboard alone', {}, async (page) => {
  await logIn(page, WRITE_TOKEN);
  await page.goto(`${url}/events/${EVENT}`);
  await page.keyboard.press('Tab');
  assert.equal(await page.evaluate(() => document.activeElement.textContent), 'Skip to content');
  const focus = async (wanted) => {
    for (let n = 0; n < 60; n += 1) {
      if ((await page.evaluate(() => (document.activeElement.textContent || document.activeElement.name).trim())) === wanted) return;
      await page.keyboard.press('Tab');
    }
    assert.fail(`${wanted} can't be reached by the keyboard`);
  };
  await focus('Requeue…');
  const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
  assert.equal(outline, 'solid', 'one sees where one is');
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { name: 'Requeue events of the inbox' }).waitFor();
  await accessible(page, 'the question');
  await focus('reason');
  await page.keyboard.type('the customer has a new card');
  await focus('Requeue');
  await page.keyboard.press('Enter');
  await page.getByRole('status').waitFor();
  assert.match(await page.getByRole('status').textContent(), /requeued: 1 event/);
  await page.goto(`${url}/events/${EVENT}`);
  assert.match(await page.locator('.error').first().textContent(), /the card has expired\s*requeued by an operator: the customer has a new card/);
});

await check('many events are discarded after one more look, and the reason is asked for', {}, async (page) => {
  await logIn(page, WRITE_TOKEN);
  await page.goto(`${url}/inbox?state=dead&event=ordering.order-placed`);
  const rows = await page.locator('input[name=seq]').count();
  assert.ok(rows >= 5, `${rows} rows`);
  await page.getByLabel('All rows of this page').check();
  assert.equal(await page.locator('input[name=seq]:checked').count(), rows);
  await page.getByRole('button', { name: 'Discard chosen…' }).click();
  await page.screenshot({ path: `${folder}/question.png`, fullPage: true });
  await page.getByRole('button', { name: 'Discard for good' }).click();
  assert.ok(await page.locator('textarea:invalid').count() === 1, 'it is not sent without a reason');
  await page.getByLabel('Why').fill('test orders');
  await page.getByRole('button', { name: 'Discard for good' }).click();
  await page.getByRole('status').waitFor();
  assert.match(await page.getByRole('status').textContent(), new RegExp(`discarded: ${rows} events`));
  assert.equal(await page.getByText('the card has expired').count(), 0);
});

await check('everything can be read without JavaScript', { javaScriptEnabled: false }, async (page) => {
  await logIn(page, READ_TOKEN);
  for (const [path, name] of pages(EVENT)) {
    const answer = await page.goto(url + path);
    assert.equal(answer.status(), 200, name);
    assert.ok((await page.locator('main').innerText()).length > 100, name);
  }
  assert.equal(await page.getByRole('button', { name: /live updates/ }).count(), 0, 'nothing is offered that does nothing');
  await page.goto(`${url}/outbox`);
  await page.getByLabel('State').selectOption('sent');
  await page.getByLabel('Settled within').selectOption('6 h');
  await page.getByRole('button', { name: 'Search' }).click();
  await page.getByRole('link', { name: 'Next page' }).click();
  await page.getByRole('link', { name: 'From the beginning' }).waitFor();
});

await check('what others have written is text and nothing else', {}, async (page) => {
  await logIn(page, WRITE_TOKEN);
  for (const path of ['/', '/inbox?state=dead', '/outbox?state=dead', `/events/${process.env.EVIL}`, '/topology', '/work']) {
    await page.goto(url + path);
    assert.equal(await page.locator('main script, main img, main iframe, [onerror], [onload]').count(), 0, path);
    assert.equal(await page.evaluate(() => window.evil), undefined, path);
  }
  await page.goto(`${url}/events/${process.env.EVIL}`);
  assert.match(await page.locator('pre').first().textContent(), /<script>window\.evil=1<\/script>/, 'it is shown as it is');
});

await check('whoever logs out is out', {}, async (page) => {
  await logIn(page, READ_TOKEN);
  await page.getByRole('button', { name: 'Log out' }).click();
  await page.goto(`${url}/outbox`);
  await page.getByRole('heading', { name: 'Log in' }).waitFor();
});

await check('a narrow screen needs no sideways scrolling', { viewport: { width: 390, height: 800 } }, async (page) => {
  await logIn(page, READ_TOKEN);
  for (const [path, name] of pages(EVENT)) {
    await page.goto(url + path);
    const [wide, screen] = await page.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth]);
    assert.ok(wide <= screen, `${name} is ${wide} wide`);
  }
  await page.goto(`${url}/`);
  await page.screenshot({ path: `${folder}/narrow.png`, fullPage: true });
});

await browser.close();
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
