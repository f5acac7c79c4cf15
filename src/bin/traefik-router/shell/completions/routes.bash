# Routespecs of the store that the line names. Readline splits words at colons, so the line is split here. xargs takes
# quotes away and expands nothing.
_traefik-router_routes() {
    local words=() cur word option='' given=() arguments=''
    while IFS= read -r word; do
        words+=("$word")
    done < <(xargs printf '%s\n' <<<"${COMP_LINE:0:COMP_POINT}|" 2>/dev/null)
    if [[ ${words[0]-} == '' ]]; then
        # A quote is open.
        _traefik__router "$@"
        return
    fi
    cur=${words[-1]%|}
    unset 'words[-1]'
    for word in "${words[@]:1}"; do
        if [[ $option ]]; then
            [[ ' @LIST@ ' == *" $option "* ]] && given+=("$option=$word")
            option=''
        elif [[ ' @VALUED@ ' == *" $word "* ]]; then
            option=$word
        elif [[ ' @LIST@ ' == *" ${word%%=*} "* ]]; then
            given+=("$word")
        elif [[ $word != -* ]]; then
            arguments+="$word "
        fi
    done
    if [[ $option || $cur == -* || $arguments != 'routes '?* || ' @COMMANDS@ ' != *" ${arguments#routes }"* ]]; then
        _traefik__router "$@"
        return
    fi
    COMPREPLY=()
    while IFS= read -r word; do
        [[ $word != "$cur"* ]] || COMPREPLY+=("$(printf %q "${word#"${cur%"${cur##*:}"}"}")")
    done < <("$1" routes list --json "${given[@]}" 2>/dev/null | sed -n 's/^    "routespec": "\(.*\)",\{0,1\}$/\1/p')
}
complete -F _traefik-router_routes -o bashdefault -o default traefik-router
