"""The frame of every live page: its navigation, its style, and the few lines of script that keep it up to date.

A page is whole without the script: it is written on the server and read again by reloading. The script fetches the same
address again and exchanges the parts marked `data-live` that differ.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from urllib.parse import quote

from lanelock.sweeps.pages import page
from lanelock.sweeps.pages.page import Block, Markup
from lanelock.sweeps.reports.difference_page import PAGE_STYLE

SECTIONS = {"/": "Sweeps", "/campaigns": "Campaigns", "/locks": "Locks", "/mlflow": "MLflow"}
OFTEN, SELDOM, NEVER = 1000, 5000, 0  # milliseconds between two looks: while something runs, otherwise, not at all

SCRIPT = """
(() => {
  const main = document.querySelector('main'), note = document.getElementById('offline');
  const known = new Map([...document.querySelectorAll('[data-live]')].map(part => [part.id, part.innerHTML]));
  let tag = null;
  const kept = part => [...part.querySelectorAll('input:checked, details[open]')].map(one => one.id).filter(Boolean);
  function put(part, html) {
    const open = kept(part), focus = part.contains(document.activeElement) ? document.activeElement.id : '';
    part.innerHTML = html;
    for (const id of open) {
      const one = document.getElementById(id);
      if (one) one.tagName === 'INPUT' ? one.checked = true : one.open = true;
    }
    if (focus) document.getElementById(focus)?.focus({preventScroll: true});
    choose();
  }
  function take(text) {
    const next = new DOMParser().parseFromString(text, 'text/html');
    document.title = next.title;
    main.dataset.every = next.querySelector('main').dataset.every;
    for (const part of next.querySelectorAll('[data-live]')) {
      const here = document.getElementById(part.id);
      if (here && known.get(part.id) !== part.innerHTML) put(here, part.innerHTML);
      known.set(part.id, part.innerHTML);
    }
  }
  async function look() {
    const began = performance.now();
    if (!document.hidden) try {
      const headers = tag ? {'If-None-Match': tag} : {};
      const answer = await fetch(location.href, {headers, cache: 'no-store'});
      if (answer.status === 200) { tag = answer.headers.get('ETag'); take(await answer.text()); }
      const fails = answer.status !== 200 && answer.status !== 304;
      note.textContent = fails ? 'It cannot be read any more; this is what was last seen.' : '';
    } catch { note.textContent = 'The server does not answer; this is what was last seen.'; }
    const every = Number(main.dataset.every);
    if (every) setTimeout(look, Math.max(every, Math.min(5000, 8 * (performance.now() - began))));
  }
  function choose() {
    const boxes = [...document.querySelectorAll('input[name=trial]')], chosen = boxes.filter(box => box.checked);
    for (const button of document.querySelectorAll('[data-two]')) button.disabled = chosen.length !== 2;
    for (const box of boxes) box.disabled = chosen.length >= 2 && !box.checked;
  }
  document.addEventListener('change', choose);
  choose();
  if (Number(main.dataset.every)) setTimeout(look, Number(main.dataset.every));
})();
"""
ALLOWED = b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()  # by the pages' security policy

_STYLE = """
body{padding-top:0}
.skip{position:absolute;left:-99rem}.skip:focus{left:1rem;top:.5rem;background:var(--surface);padding:.4rem .8rem}
.top{display:flex;flex-wrap:wrap;align-items:baseline;gap:.2rem 1.4rem;padding:.9rem 0 .7rem;margin-bottom:1.4rem;
border-bottom:1px solid var(--line)}
.top b{font-size:1.05rem;letter-spacing:.01em}.top nav{display:flex;flex-wrap:wrap;gap:.2rem 1.1rem}
.top a{text-decoration:none;color:var(--muted);padding:.15rem 0;border-bottom:2px solid transparent}
.top a:hover{color:var(--ink)}.top a[aria-current]{color:var(--ink);font-weight:600;border-color:var(--candidate)}
.top .muted{margin-left:auto;font-size:.85rem}
:is(a,button,input,textarea,summary,.scroll):focus-visible{outline:2px solid var(--candidate);outline-offset:2px}
#offline:not(:empty){padding:.6rem .9rem;margin:0 0 1rem;border:1px solid var(--unsure);border-radius:8px;
color:var(--unsure);background:var(--surface)}
h2{margin:2.2rem 0 .7rem}.note{color:var(--muted);margin:.2rem 0 .8rem}
.banner.going{--tone:var(--candidate)}.chip.going{--tone:var(--candidate)}.chip.still{--tone:var(--muted)}
.progress{display:flex;height:.9rem;border-radius:.45rem;overflow:hidden;background:var(--sunken);margin:1.2rem 0 .5rem;
border:1px solid var(--line)}
.progress i{display:block}.progress .complete{background:var(--candidate)}
.progress .vetoed{background:repeating-linear-gradient(45deg,var(--bad) 0 4px,var(--surface) 4px 7px)}
.progress .behind{background:repeating-linear-gradient(90deg,var(--muted) 0 3px,var(--surface) 3px 6px)}
.progress .failed{background:var(--unsure)}
.key.progress{display:inline-flex;width:1.5rem;height:.75rem;margin:0 .4rem 0 0;vertical-align:-1px;
border-radius:3px}.key i{width:100%}
.rows{width:100%;border:1px solid var(--line);border-radius:10px;border-collapse:separate;border-spacing:0;
overflow:hidden}
.rows tr:last-child>*{border-bottom:0}.rows tbody th{font-weight:400}.rows tbody th a{font-weight:600}
.rows td.wide{min-width:13rem}.rows td.gauge{min-width:11.5rem}.rows tbody th{min-width:6.5rem}
.rows tr.locked>*{background:color-mix(in srgb,var(--good) 9%,var(--surface))}
.rows :is(td,th) .muted{font-size:.88rem}.num{white-space:nowrap}
.meter{display:block;position:relative;width:100%;min-width:4.5rem;height:.42rem;margin-top:.25rem;border-radius:3px;
background:var(--sunken)}
.meter i{position:absolute;inset:0 auto 0 0;border-radius:3px;background:var(--candidate);opacity:.75}
.meter.at i{width:.5rem!important;margin-left:-.25rem;opacity:1}
.knobs{display:grid;grid-template-columns:repeat(auto-fill,minmax(7.2rem,1fr));gap:.35rem .9rem;margin:0;padding:0;
list-style:none;font-size:.88rem}
.pick{display:flex;flex-wrap:wrap;align-items:center;gap:.5rem 1rem;margin:.6rem 0 .8rem}
.pick p{margin:0}
button,.button{font:inherit;display:inline-block;padding:.32rem .9rem;border-radius:7px;border:1px solid
var(--candidate);background:var(--candidate);color:var(--surface);cursor:pointer;text-decoration:none}
button:hover:not(:disabled){filter:brightness(1.1)}
button:disabled{background:var(--sunken);border-color:var(--line);color:var(--muted);cursor:default}
button.plain{background:none;color:var(--candidate)}
input[type=checkbox]{width:1.15rem;height:1.15rem;accent-color:var(--candidate);margin:.15rem 0 0}
textarea{font:inherit;width:100%;max-width:46rem;min-height:5.5rem;padding:.5rem .7rem;border:1px solid var(--line);
border-radius:7px;background:var(--surface);color:var(--ink)}
label{display:block;font-weight:600;margin:1rem 0 .3rem}:is(.pick,.links) label{margin:0;font-weight:400}
.rank{flex-wrap:nowrap;gap:.6rem;align-items:baseline}
.links{display:flex;flex-wrap:wrap;gap:.2rem 1rem}.links.row{margin:.8rem 0 0}
pre{white-space:pre-wrap;overflow-wrap:anywhere;background:var(--surface);border:1px solid var(--line);
border-radius:8px;padding:.8rem 1rem;font:.85rem/1.45 ui-monospace,Menlo,Consolas,monospace}
.timeline{list-style:none;margin:1rem 0 0;padding:0;border-left:3px solid var(--line)}
.timeline>li{position:relative;padding:0 0 1.6rem 1.5rem}
.timeline>li::before{content:"";position:absolute;left:-.56rem;top:.35rem;width:.85rem;height:.85rem;
border-radius:50%;background:var(--tone,var(--line));border:2px solid var(--page)}
.timeline>li.bad::before{border-radius:2px}.timeline>li.going::before{--tone:var(--candidate)}
.timeline h3{margin:0 .6rem .3rem 0;display:inline-block}.timeline p{margin:.3rem 0}
.timeline .meter{max-width:26rem}.timeline figure{max-width:34rem;margin-top:.6rem}
.sides{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,24rem),1fr));gap:1rem}
@media (max-width:66rem){
.rows,.rows tbody,.rows tr,.rows th,.rows td{display:block;width:auto;min-width:0!important}.rows thead{display:none}
.rows tr{padding:.6rem .9rem;border-bottom:1px solid var(--line)}.rows tr:last-child{border-bottom:0}
.rows td,.rows tbody th{border:0;padding:.15rem 0}.rows td:empty{display:none}
.rows td[data-label]{display:grid;grid-template-columns:6.2rem minmax(0,1fr);gap:.6rem}
.rows td[data-label]::before{content:attr(data-label);color:var(--muted);font-size:.88rem}
.rows tr.locked{background:color-mix(in srgb,var(--good) 9%,var(--surface))}.rows tr.locked>*{background:none}
}
@media (min-width:66.01rem){.rows tbody th a{display:inline-block;max-width:17rem;overflow:hidden;
text-overflow:ellipsis;white-space:nowrap;vertical-align:top}}
@media (max-width:30rem){.chip{white-space:normal;overflow-wrap:anywhere}
.top .muted{margin-left:0;width:100%}.facts div{flex-wrap:wrap;gap:0 .8rem}}
@media (prefers-reduced-motion:no-preference){.progress i,.meter i{transition:width .3s}}
"""


def framed(title: str, here: str, place: str, blocks: Iterable[Block], every: int = NEVER) -> str:
    """Returns a page with navigation. `here`: the section that it belongs to; `place`: the workspace, in words."""
    links = "".join(
        f'<a href="{address}"{" aria-current=page" if address == here else ""}>{name}</a>'
        for address, name in SECTIONS.items()
    )
    top = (
        f'<a class="skip" href="#main">To the content</a><header class="top"><b>Lanelock</b>'
        f'<nav aria-label="Pages">{links}</nav><span class="muted">{escape(place)}</span></header>'
        f'<main id="main" data-every="{every}"><p id="offline" role="status"></p>'
    )
    whole = (markup(top), *blocks, markup(f"</main><script>{SCRIPT}</script>"))
    return page.as_html(f"{title} · Lanelock", whole, PAGE_STYLE + _STYLE)


def markup(html: str) -> Markup:
    """Returns finished HTML as a block of a page."""
    return Markup(html, "")


def live(name: str, blocks: Iterable[Block]) -> Iterator[Block]:
    """Yields blocks as a part of the page that the script keeps up to date."""
    yield markup(f'<div id="{name}" data-live>')
    yield from blocks
    yield markup("</div>")


def heading(level: int, text: str) -> Markup:
    return markup(f"<h{level}>{escape(text)}</h{level}>")


def note(html: str) -> Markup:
    return markup(f'<p class="note">{html}</p>')


def rows(head: Mapping[str, str], body: Iterable[tuple[str, Iterable[str]]], caption: str) -> Markup:
    """Returns a table that becomes a list of cards on a narrow screen.

    `head`: heading -> class of its cells. `body`: (class of the row, its cells as HTML); the first cell names the row.
    """
    tops = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    lines = []
    for kind, cells in body:
        first, *others = cells
        tds = "".join(
            f'<td class="{css}"{f" data-label={chr(34)}{escape(name)}{chr(34)}" if name and cell else ""}>'
            f"{f'<div>{cell}</div>' if cell else ''}</td>"
            for (name, css), cell in zip([*head.items()][1:], others, strict=True)
        )
        lines.append(f'<tr class="{kind}"><th scope="row">{first}</th>{tds}</tr>')
    return markup(
        f'<table class="rows" aria-label="{escape(caption)}"><thead><tr>{tops}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table>"
    )


def chip(text: str, tone: str) -> str:
    mark = {"good": "✓ ", "bad": "✗ ", "going": "▶ ", "unsure": "? "}.get(tone, "")
    return f'<span class="chip {tone}">{mark}{escape(text)}</span>'


def decided(outcome: str) -> str:
    """Returns a decision as a chip."""
    return chip(outcome, {"GO": "good", "NO_GO": "bad"}.get(outcome, "unsure"))


def link(address: str, text: str) -> str:
    return f'<a href="{escape(address)}">{escape(text)}</a>'


def path(*names: object) -> str:
    """Returns the address of a page below the root."""
    return "/" + "/".join(quote(str(name), safe="") for name in names)


def meter(share: float, *, at: bool = False) -> str:
    """Returns a bar that fills a share of its width, or a mark at that place."""
    width = f"{100 * min(1.0, max(0.0, share)):.1f}%"
    style = f"left:{width}" if at else f"width:{width}"
    return f'<span class="meter{" at" if at else ""}" aria-hidden="true"><i style="{style}"></i></span>'
