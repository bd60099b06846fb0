"""Views of results.json: each module has one function `view` from `Results` to text, and `outline` has what they share.

terminal, html, markdown, junit; `compare` shows two files beside each other.
"""
