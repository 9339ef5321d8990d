"""How a scorecard's page is set: rules and badges, on the tokens of `scoring.figures.palette`."""

STYLE = """
.banner{display:flex;gap:1.2rem;align-items:flex-start;padding:1.3rem 1.5rem;background:var(--surface);
border:1px solid var(--line);border-left:8px solid var(--tone);border-radius:10px}
.banner>svg{flex:none;width:56px;height:56px;fill:none;stroke:var(--tone);stroke-width:4;stroke-linejoin:round}
.banner p{margin:0}.banner h1{margin:.1rem 0 .3rem;color:var(--tone)}.banner ul{margin:.7rem 0 0;padding-left:1.1rem}
.kind{color:var(--muted)}
.good{--tone:var(--good)}.bad{--tone:var(--bad)}.unsure{--tone:var(--unsure)}.part{--tone:var(--unsure)}
.facts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,34rem),1fr));gap:0 2rem;
margin:1.2rem 0}
.facts div{display:flex;gap:.8rem;padding:.3rem 0;border-bottom:1px solid var(--line)}
.facts code{font-size:.74rem}.facts dt{flex:0 0 5.6rem;color:var(--muted)}.facts dd{margin:0;min-width:0}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:.2rem 1.4rem;margin:0;padding:0;color:var(--muted);
font-size:.9rem}
.legend svg{vertical-align:-2px}
h3+p{margin:.1rem 0 .7rem;color:var(--muted)}
.gates{width:100%;table-layout:fixed;border:1px solid var(--line);border-radius:10px;border-spacing:0;
border-collapse:separate;overflow:hidden}
.gates tr:last-child>*{border-bottom:0}.gates tr:target{outline:2px solid var(--candidate);outline-offset:-2px}
.gates th:nth-child(2){width:9.8rem}.gates th:nth-child(3){width:8.2rem}.gates td .muted{font-size:.88rem}
.gates th:nth-child(4),.gates th:nth-child(5){width:16.4rem}.gates th:nth-child(6){width:6.6rem}
.gates tbody th{font-weight:400;overflow-wrap:anywhere}.gates tbody th code{font-weight:700;font-size:.95em;
display:block}
.gates tbody th p{margin:.15rem 0 0;font-size:.85rem;color:var(--muted)}.gates tbody th .muted{font-size:.85rem}
.bars{display:block;max-width:100%;font-size:12px;overflow:visible}.legend .bars{display:inline-block}
.chip{display:inline-block;padding:.05rem .55rem;border:1.5px solid var(--tone);border-radius:1rem;color:var(--tone);
font-weight:600;white-space:nowrap;font-size:.88rem}
.bad.chip{border-style:dashed}
@media (max-width:66rem){
.gates thead{display:none}.gates,.gates tbody,.gates tr,.gates th,.gates td{display:block;width:auto}
.gates tr{padding:.6rem .9rem;border-bottom:1px solid var(--line)}
.gates td,.gates tbody th{border:0;padding:.15rem 0}
.gates td{display:flex;gap:.8rem}.gates td::before{content:attr(data-label);flex:0 0 3.6rem;color:var(--muted)}
}
@media (max-width:30rem){figure{padding:.7rem .6rem}h1{font-size:1.35rem}
.banner{padding:1rem;gap:.8rem}.banner>svg{width:36px;height:36px}}
"""

BADGES = {  # a shape for each tone, so that none rests on colour
    "good": '<svg viewBox="0 0 48 48" aria-hidden="true"><circle cx="24" cy="24" r="20"/>'
    '<path d="M14 25l7 7l14 -15"/></svg>',
    "bad": '<svg viewBox="0 0 48 48" aria-hidden="true"><path d="M16 4h16l12 12v16l-12 12h-16l-12 -12v-16z"/>'
    '<path d="M16 16l16 16M32 16l-16 16"/></svg>',
    "unsure": '<svg viewBox="0 0 48 48" aria-hidden="true"><path d="M24 3l21 21l-21 21l-21 -21z"/>'
    '<path d="M18 19c0 -8 12 -8 12 0c0 5 -6 4 -6 10M24 33v2"/></svg>',
}

KEYS = {  # the shapes that seeds are drawn with
    name: f'<svg class="bars" width="{wide}" height="14" aria-hidden="true">{shape}</svg>'
    for name, wide, shape in (
        ("seed", 14, '<circle cx="7" cy="7" r="4" style="fill:var(--candidate)"/>'),
        ("worst", 14, '<path d="M7 0l6 7l-6 7l-6 -7z" style="fill:var(--candidate)"/>'),
        ("authority", 14, '<circle cx="7" cy="7" r="5.5" style="fill:none;stroke:var(--authority);stroke-width:1.8"/>'),
        ("holding", 26, '<rect width="26" height="14" style="fill:var(--sunken)"/>'),
    )
}
