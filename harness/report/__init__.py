"""Views of results.json: each module has one function `view` from `Results` to text; `summary` has what they share."""
