// See pages.sh.
const fs = require("node:fs");
const { chromium } = require("playwright-core");

const [server, folder, ...paths] = process.argv.slice(2);
const axe = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const quiet = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync"];

async function picture(browser, path, width, colorScheme) {
  const complaints = [];
  // As a person without scripts sees it.
  const plain = await browser.newContext({ viewport: { width, height: 900 }, colorScheme, javaScriptEnabled: false });
  const page = await plain.newPage();
  page.on("request", (request) => {
    const own = request.url().startsWith(server) || request.url().startsWith("data:");
    if (!own) complaints.push(`asks for ${request.url()}`);
  });
  await page.goto(server + path);
  const name = path.replace(/[^a-z0-9]+/gi, "-").replace(/^-|-$/g, "") || "list";
  await page.screenshot({ path: `${folder}/${name}-${width}-${colorScheme}.png`, fullPage: true });
  await plain.close();
  // The policy of the pages lets in no script, so the check goes round it.
  const checked = await browser.newContext({ viewport: { width, height: 900 }, colorScheme, bypassCSP: true });
  const other = await checked.newPage();
  await other.goto(server + path);
  await other.evaluate(axe);
  const found = await other.evaluate(() => window.axe.run());
  for (const rule of found.violations) {
    complaints.push(`${rule.id}: ${rule.help}: ${rule.nodes.map((node) => node.target).join(", ")}`);
  }
  const over = await other.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  if (over > 0) complaints.push(`${over} px wider than the window`);
  await checked.close();
  return complaints.map((complaint) => `${path} at ${width} px, ${colorScheme}: ${complaint}`);
}

(async () => {
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM || "/usr/bin/chromium", args: quiet });
  const complaints = [];
  for (const path of paths)
    for (const width of [390, 1280])
      for (const colorScheme of ["light", "dark"]) complaints.push(...(await picture(browser, path, width, colorScheme)));
  await browser.close();
  complaints.forEach((complaint) => console.error(complaint));
  console.log(`${paths.length * 4} pictures in ${folder}, ${complaints.length} complaints`);
  process.exit(complaints.length ? 1 : 0);
})();
