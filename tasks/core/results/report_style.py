"""How a report looks: on a phone, on a desktop, in the dark and on paper."""

# None for nothing; then one hue from light to dark: steps stay apart without colour, and the text on each has a
# contrast of 4.5 or more.
SHADES = ("", "#eef4fa", "#d8e6f3", "#bdd5ea", "#9dc1e0", "#7aa9d3", "#3a6ea5", "#26568c", "#123c6b")
FIRST_DARK = 6
# Dots stand on white, where the lightest shades would vanish.
_DOTS = ("#dfe3e8", "#d3deea", "#bdd0e4", "#a0bddb", "#7ea6cf", "#5a8cc0", "#3a6ea5", "#26568c", "#123c6b")

_CELLS = "".join(
    f".q{at}{{background:{shade};color:{'#fff' if at >= FIRST_DARK else '#1d2129'}}}"
    for at, shade in enumerate(SHADES)
    if shade
) + "".join(f".d{at}{{fill:{shade}}}" for at, shade in enumerate(_DOTS))

STYLE = (
    """
:root{color-scheme:light dark;--ground:#fff;--ink:#1d2129;--soft:#565c66;--line:#d5d8dc;--tint:#f4f6f8;--link:#1f5fae;
--bar:#3a6ea5}
@media (prefers-color-scheme:dark){:root{--ground:#15181d;--ink:#e6e8eb;--soft:#a9b0ba;--line:#3a404a;--tint:#1f242b;
--link:#8ab8f0;--bar:#7aa9d3}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0 auto;padding:1rem;max-width:75rem;background:var(--ground);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;overflow-wrap:anywhere}
h1{font-size:1.5rem;line-height:1.25;margin:.5rem 0}
h2{font-size:1.25rem;margin:2.5rem 0 .75rem;padding-top:.5rem;border-top:1px solid var(--line)}
h3{font-size:1.05rem;margin:1.75rem 0 .5rem}
a{color:var(--link)}
p,ul{max-width:48rem}
nav ul{display:flex;flex-wrap:wrap;gap:.25rem 1rem;list-style:none;padding:0;margin:1rem 0;max-width:none}
nav a{display:inline-block;padding:.25rem 0}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.9rem}
caption{text-align:left;color:var(--soft);padding:.25rem 0;caption-side:top;min-width:16rem}
th,td{padding:.25rem .6rem .25rem 0;text-align:left;vertical-align:top;border-bottom:1px solid var(--line)}
th{font-weight:600}
tbody th{font-weight:400}
.r{text-align:right;white-space:nowrap;padding-left:.6rem}
thead .r{white-space:normal}
.wide{overflow-x:auto;margin:.75rem 0;max-width:100%}
.wide td,.wide th{overflow-wrap:normal}
.wide .long td{overflow-wrap:anywhere}
.cols{display:flex;flex-wrap:wrap;gap:0 3rem}
.cols>div{max-width:100%}
.heat{border-collapse:separate;border-spacing:1px;font-size:.8rem}
.heat td,.heat th{padding:.15rem .2rem;border:0;text-align:center;min-width:1.9rem}
.heat tbody th{text-align:left;position:sticky;left:0;background:var(--ground);white-space:nowrap;max-width:9rem;
overflow:hidden;text-overflow:ellipsis}
.heat thead th{vertical-align:bottom}
.heat thead span{writing-mode:vertical-rl;transform:rotate(180deg);max-height:10rem;overflow:hidden;
text-overflow:ellipsis;white-space:nowrap;font-weight:400;display:inline-block}
figure{margin:.75rem 0}
figcaption{color:var(--soft);font-size:.9rem;max-width:48rem}
img,.paper{max-width:100%;height:auto;background:#fff;border-radius:4px;border:1px solid var(--line)}
img{display:block}
.wide img{max-width:none;width:100%;min-width:34rem}
@media (min-width:52rem){.wide img{width:auto}}
svg.paper{display:block;width:100%;color:#1d2129;font:11px system-ui,sans-serif}
svg.fixed{width:auto;max-width:none}
svg.key{display:inline-block;width:auto;vertical-align:middle;border:0}
svg text{fill:#1d2129}
.m{text-anchor:middle}.e{text-anchor:end}.s{text-anchor:start}
.axis{stroke:#8a9099}
.bound{stroke:#b3261e;stroke-width:1.5;stroke-dasharray:4 3}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,20rem),1fr));gap:1rem}
.grid figure{margin:0}
.grid table{font-size:.82rem}
.grid td,.grid th{padding-right:.3rem}
.key-list{display:flex;flex-wrap:wrap;gap:.2rem 1rem;list-style:none;padding:0;margin:.5rem 0 1rem;font-size:.9rem;
max-width:none}
.key-list svg{vertical-align:-.35em;margin-right:.35em;background:#fff;border-radius:3px}
.key-list b{margin-right:.35em}
.key-list span{color:var(--soft)}
.bar{display:inline-block;width:8rem;max-width:30vw;height:.75rem;background:var(--tint);border:1px solid var(--line);
vertical-align:middle}
.bar i{display:block;height:100%;background:var(--bar)}
.num{display:inline-block;min-width:4.2rem;padding-left:.5rem;text-align:right}
pre{white-space:pre-wrap;background:var(--tint);border:1px solid var(--line);border-radius:4px;padding:.75rem;
font-size:.9rem}
.best{font-weight:700}
small{display:block;color:var(--soft);max-width:40rem}
@media print{
:root{color-scheme:light;--ground:#fff;--ink:#000;--soft:#444;--line:#ccc;--tint:#f4f6f8;--link:#000;--bar:#3a6ea5}
body{font-size:10pt;padding:0;max-width:none}
nav{display:none}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}
.wide{overflow:visible}
.wide img{min-width:0;max-width:100%}
h2,h3,caption{break-after:avoid}
figure,tr,.grid figure{break-inside:avoid}
.heat{font-size:6pt}
.heat td,.heat th{padding:.05rem .1rem;min-width:0}
.grid{grid-template-columns:repeat(3,1fr)}
svg.fixed{max-width:100%}
}
"""
    + _CELLS
)
